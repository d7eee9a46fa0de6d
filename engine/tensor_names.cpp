#include "engine/tensor_names.h"

namespace redline {

const TensorNames kGgufNames = {
    "blk.",
    {"token_embd.weight", "output_norm.weight", "output.weight", "attn_norm.weight", "attn_q.weight",
     "attn_k.weight", "attn_v.weight", "attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_q_norm.weight",
     "attn_k_norm.weight", "attn_output.weight", "ffn_norm.weight", "ffn_gate.weight", "ffn_up.weight",
     "ffn_down.weight"},
    "post_attention_norm.weight",
    "post_ffw_norm.weight",
    "attn_qkv.weight",
    "ffn_up.weight"};

const TensorNames kHfNames = {
    "model.layers.",
    {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "input_layernorm.weight",
     "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.q_proj.bias",
     "self_attn.k_proj.bias", "self_attn.v_proj.bias", "self_attn.q_norm.weight", "self_attn.k_norm.weight",
     "self_attn.o_proj.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight",
     "mlp.up_proj.weight", "mlp.down_proj.weight"},
    "post_attention_layernorm.weight",
    "post_feedforward_layernorm.weight",
    "self_attn.qkv_proj.weight",
    "mlp.gate_up_proj.weight"};

std::string TensorNames::name(TensorRole role, std::int64_t layer, NormPlacement norms) const {
  const char* role_name = role_names[static_cast<int>(role)];
  if (norms == NormPlacement::kAfterBlock && role == TensorRole::kAttnNorm) role_name = attn_norm_after;
  if (norms == NormPlacement::kAfterBlock && role == TensorRole::kFfnNorm) role_name = ffn_norm_after;
  return is_per_layer(role) ? in_layer(layer, role_name) : role_name;
}

}  // namespace redline
