#!/usr/bin/env python3
"""Makes what tests/engine/golden_test.cpp and kl_test.cpp compare against: logits and greedy tokens of
Hugging Face transformers in fp32 with eager attention, for tiny random models and for SmolLM2-135M-Instruct.

    pip install torch transformers gguf tokenizers safetensors
    tests/goldens/make_model_goldens.py tiny
    tests/goldens/make_model_goldens.py smollm2 --model ~/.cache/redline/SmolLM2-135M-Instruct.Q4_1.gguf

The results are committed, so neither a build nor a test needs any of this. README.md names the files."""

import argparse
import hashlib
import json
import pathlib
import shutil

import gguf
import numpy as np
import safetensors.torch
import tokenizers
import torch
import transformers

import quantized_checkpoints

HERE = pathlib.Path(__file__).resolve().parent
TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
GGML = {
    "f32": gguf.GGMLQuantizationType.F32,
    "f16": gguf.GGMLQuantizationType.F16,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0,
    "q4_1": gguf.GGMLQuantizationType.Q4_1,
}
# A greedy step is only worth recording where no rounding can turn it: the best logit leads the second by
# this many standard deviations, against an allowed error of 1e-3.
MIN_MARGIN = 0.02


def case(heads, kv_heads, head_dim, hidden, ffn, vocab, dtype, rope=None, **more):
    """A tiny model. `rope`: keys of config.json beyond the plain ones (safetensors), or of a GGUF header."""
    default = dict(family="llama", config={}, layers=2, tied=False, theta=10000.0, shards=1, tokens=96, eps=1e-5)
    return dict(default, heads=heads, kv_heads=kv_heads, head_dim=head_dim, hidden=hidden, ffn=ffn,
                vocab=vocab, dtype=dtype, rope=rope or {}, **more)


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=128)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)

# Old files write rope_theta and rope_scaling (once with "type"), new ones rope_parameters: both occur.
SAFETENSORS = {
    "plain_9to3_d32_bf16_tied": case(9, 3, 32, 45, 56, 131, "bf16", tied=True),
    "plain_7to1_d64_f16_odd": case(7, 1, 64, 35, 47, 127, "f16", theta=500000.0),
    "plain_2to2_d80_f32": case(2, 2, 80, 24, 40, 113, "f32"),
    "plain_1to1_d256_bf16_odd": case(1, 1, 256, 27, 35, 109, "bf16", layers=3),
    "plain_2to1_d128_f16_tied": case(2, 1, 128, 32, 64, 103, "f16", tied=True, eps=1e-6),
    "plain_4to2_d32_long_bf16": case(4, 2, 32, 32, 48, 61, "bf16", tokens=700, tied=True),
    "linear_8to2_d96_bf16": case(8, 2, 96, 24, 33, 101, "bf16", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "linear_parameters_4to2_d32_f32": case(4, 2, 32, 24, 40, 107, "f32", {"rope_parameters": {
        "rope_type": "linear", "factor": 2.5, "rope_theta": 20000.0}}),
    "llama3_8to2_d32_bf16_sharded": case(8, 2, 32, 32, 64, 127, "bf16", {"rope_scaling": LLAMA3}, shards=3, theta=500000.0),
    "llama3_parameters_7to1_d32_f16": case(7, 1, 32, 21, 43, 101, "f16", {"rope_parameters": dict(LLAMA3, rope_theta=10000.0)}),
    "yarn_9to3_d64_bf16_tied": case(9, 3, 64, 27, 32, 131, "bf16", {"rope_scaling": YARN}, tied=True),
    "yarn_factor_4to4_d32_f32": case(4, 4, 32, 24, 33, 97, "f32", {"rope_scaling": dict(
        YARN, attention_factor=0.8, beta_fast=16.0, beta_slow=2.0)}),
    "yarn_parameters_2to1_d80_bf16": case(2, 1, 80, 32, 48, 97, "bf16", {"rope_parameters": dict(
        YARN, rope_theta=50000.0, truncate=False, factor=16.0, original_max_position_embeddings=16,
        mscale=0.707, mscale_all_dim=1.0)}),
}


def LONGROPE(pairs):
    return {"type": "longrope", "short_factor": [1 + 0.1 * i for i in range(pairs)], "long_factor": [1.5 + i for i in range(pairs)]}


GRANITE = dict(embedding_multiplier=6.0, attention_multiplier=0.3, residual_multiplier=0.4, logits_scaling=2.5)


def family(kind, heads, kv_heads, head_dim, hidden, ffn, dtype, rope=None, vocab=61, tokens=48, **more):
    """A tiny model of another architecture, as small as shows what sets it apart."""
    return case(heads, kv_heads, head_dim, hidden, ffn, vocab, dtype, rope, family=kind, tokens=tokens, **more)


def gguf_family(*arguments, **more):
    return family(*arguments, **dict(dict(vocab=257, tokens=24), **more))


FAMILY_SAFETENSORS = {
    "qwen2_9to3_bf16": family("qwen2", 9, 3, 16, 27, 33, "bf16"),
    "qwen2_7to1_f16_tied": family("qwen2", 7, 1, 16, 21, 32, "f16", tied=True, theta=1000000.0),
    "qwen3_9to3_bf16": family("qwen3", 9, 3, 16, 27, 33, "bf16", eps=1e-6),
    "qwen3_7to1_d32_f16_tied": family("qwen3", 7, 1, 32, 21, 32, "f16", tied=True),
    "qwen3_upper_window_4to2_bf16": family("qwen3", 4, 2, 16, 24, 32, "bf16", tied=True, layers=3, tokens=80, config=dict(
        use_sliding_window=True, sliding_window=13, max_window_layers=1)),
    "mistral_9to3_window19_bf16": family("mistral", 9, 3, 16, 27, 33, "bf16", tokens=90, config=dict(sliding_window=19)),
    "mistral_7to1_full_f16": family("mistral", 7, 1, 16, 21, 32, "f16", config=dict(sliding_window=None)),
    "smollm3_9to3_bf16_tied": family("smollm3", 9, 3, 16, 18, 24, "bf16", tied=True, layers=4, config=dict(
        no_rope_layer_interval=4)),
    "smollm3_listed_7to1_f16": family("smollm3", 7, 1, 16, 21, 24, "f16", layers=3, config=dict(
        no_rope_layers=[0, 1, 0], use_sliding_window=True, sliding_window=17)),
    "phi3_9to3_longrope_long_bf16": family("phi3", 9, 3, 8, 72, 33, "bf16", {"rope_scaling": LONGROPE(3)}, layers=1, config=dict(
        original_max_position_embeddings=16, partial_rotary_factor=0.75)),
    "phi3_7to1_longrope_short_f16": family("phi3", 7, 1, 16, 112, 24, "f16", {"rope_scaling": LONGROPE(6)}, layers=1, vocab=31,
        config=dict(original_max_position_embeddings=256, partial_rotary_factor=0.75)),
    "phi3_4to2_window23_bf16": family("phi3", 4, 2, 16, 64, 32, "bf16", config=dict(sliding_window=23), tokens=90, vocab=31),
    "granite_9to3_bf16": family("granite", 9, 3, 16, 27, 33, "bf16", config=GRANITE),
    "granite_7to1_f16_tied": family("granite", 7, 1, 16, 21, 32, "f16", tied=True, config=dict(
        GRANITE, embedding_multiplier=1.5, residual_multiplier=0.7)),
    "olmo2_9to3_bf16": family("olmo2", 9, 3, 16, 27, 33, "bf16", eps=1e-6),
    "olmo2_7to1_f16_tied": family("olmo2", 7, 1, 16, 21, 32, "f16", tied=True, layers=3),
}
FAMILY_GGUF = {
    "gguf_qwen2_7to1_bf16_tied": gguf_family("qwen2", 7, 1, 8, 56, 41, "bf16", tied=True, layers=1),
    "gguf_qwen3_4to2_q8_0": gguf_family("qwen3", 4, 2, 32, 32, 64, "q8_0", tied=True),
    "gguf_mistral_4to2_window17_f16_tied": gguf_family("mistral", 4, 2, 16, 32, 33, "f16", tied=True, tokens=40, config=dict(sliding_window=17)),
    "gguf_smollm3_4to2_q8_0_tied": gguf_family("smollm3", 4, 2, 16, 32, 32, "q8_0", tied=True, layers=4),
    "gguf_phi3_4to2_longrope_f16_tied": gguf_family("phi3", 4, 2, 16, 64, 33, "f16", {"rope_scaling": LONGROPE(6)}, tied=True, layers=1,
        config=dict(original_max_position_embeddings=16, partial_rotary_factor=0.75, sliding_window=19)),
    "gguf_granite_4to2_q4_0_tied": gguf_family("granite", 4, 2, 16, 64, 64, "q4_0", tied=True, config=dict(
        GRANITE, embedding_multiplier=1.5, residual_multiplier=0.7)),
    "gguf_olmo2_7to1_bf16": gguf_family("olmo2", 7, 1, 8, 56, 17, "bf16", layers=1),
}
GGUF = {
    "gguf_f32_linear_4to2": case(4, 2, 32, 32, 48, 257, "f32", {"type": "linear", "factor": 4.0}, tokens=64),
    "gguf_f16_llama3_8to2": case(8, 2, 32, 32, 64, 257, "f16", {"rope_freqs": LLAMA3}, tokens=64, theta=500000.0),
    "gguf_bf16_plain_7to1_d64_odd": case(7, 1, 64, 35, 47, 257, "bf16", tokens=64),
    "gguf_q8_0_yarn_2to1_tied": case(2, 1, 64, 64, 96, 257, "q8_0", {"type": "yarn", "factor": 4.0, "original": 32}, tokens=64, tied=True),
    "gguf_q4_0_plain_4to4": case(4, 4, 32, 64, 128, 257, "q4_0", tokens=64),
    "gguf_q4_1_q8_0_plain_3to1_tied": case(3, 1, 32, 96, 64, 257, "q4_1", tokens=64, tied=True, embedding="q8_0"),
}


def quantized(kind, heads, kv_heads, head_dim, hidden, ffn, method, tied=False, **options):
    return family(kind, heads, kv_heads, head_dim, hidden, ffn, "f16", tied=tied, layers=1, quantization=dict(method=method, **options))


QUANTIZED_SAFETENSORS = {
    "quantized_gptq_4to2": quantized("llama", 4, 2, 32, 64, 96, "gptq"),
    "quantized_gptq_asymmetric_qwen2_4to2_tied": quantized("qwen2", 4, 2, 16, 64, 96, "gptq", tied=True, symmetric=False),
    "quantized_gptq_act_order_v2_4to2": quantized("llama", 4, 2, 16, 64, 32, "gptq", symmetric=False, act_order=True, version="gptq_v2"),
    "quantized_gptq_groups_of_8_phi3_4to2": quantized("phi3", 4, 2, 16, 64, 40, "gptq", group=8),
    "quantized_awq_4to2": quantized("llama", 4, 2, 32, 96, 64, "awq"),
    "quantized_fp8_tensor_4to2": quantized("llama", 4, 2, 32, 128, 128, "fp8"),
    "quantized_fp8_channel_phi3_4to2": quantized("phi3", 4, 2, 16, 64, 128, "fp8", scales="channel", words="compressed-tensors"),
    "quantized_fp8_blocks_4to2": quantized("llama", 4, 2, 32, 128, 256, "fp8", scales="block", block=(96, 128), scale_name="weight_scale_inv"),
    "quantized_fp8_blocks_48_qwen3_4to2_tied": quantized("qwen3", 4, 2, 32, 72, 80, "fp8", tied=True, scales="block", block=(32, 48),
        scale_name="weight_scale_inv"),
}
SAFETENSORS |= FAMILY_SAFETENSORS | QUANTIZED_SAFETENSORS
GGUF |= FAMILY_GGUF
CLASSES = {
    "llama": transformers.LlamaForCausalLM, "mistral": transformers.MistralForCausalLM,
    "qwen2": transformers.Qwen2ForCausalLM, "qwen3": transformers.Qwen3ForCausalLM,
    "smollm3": transformers.SmolLM3ForCausalLM, "phi3": transformers.Phi3ForCausalLM,
    "granite": transformers.GraniteForCausalLM, "olmo2": transformers.Olmo2ForCausalLM,
}


def random_weights(c, rng):
    """fp32 by Hugging Face name, large enough that neither softmax nor logits are flat."""
    kind = c["family"]

    def matrix(rows, cols, gain):
        return (rng.standard_normal((rows, cols)) * gain / np.sqrt(cols)).astype(np.float32)

    def norm(size=c["hidden"]):
        return rng.uniform(0.5, 1.5, size).astype(np.float32)

    def bias(size):
        return rng.uniform(-1.0, 1.0, size).astype(np.float32)

    h, q, kv = c["hidden"], c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]
    w = {"model.embed_tokens.weight": matrix(c["vocab"], h, 0.4 * np.sqrt(h)), "model.norm.weight": norm()}
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = norm()
        w[p + "self_attn.q_proj.weight"] = matrix(q, h, 1.6)
        w[p + "self_attn.k_proj.weight"] = matrix(kv, h, 1.6)
        w[p + "self_attn.v_proj.weight"] = matrix(kv, h, 1.6)
        if kind == "qwen2":
            w |= {p + f"self_attn.{name}_proj.bias": bias(size) for name, size in (("q", q), ("k", kv), ("v", kv))}
        if kind == "qwen3":
            w |= {p + f"self_attn.{name}_norm.weight": norm(c["head_dim"]) for name in "qk"}
        if kind == "olmo2":
            w |= {p + "self_attn.q_norm.weight": norm(q), p + "self_attn.k_norm.weight": norm(kv)}
            del w[p + "input_layernorm.weight"]
        w[p + "self_attn.o_proj.weight"] = matrix(h, q, 1.6)
        w[p + "post_attention_layernorm.weight"] = norm()
        w[p + "mlp.gate_proj.weight"] = matrix(c["ffn"], h, 1.6)
        w[p + "mlp.up_proj.weight"] = matrix(c["ffn"], h, 1.6)
        w[p + "mlp.down_proj.weight"] = matrix(h, c["ffn"], 1.6)
        if kind == "olmo2":
            w[p + "post_feedforward_layernorm.weight"] = norm()
        if kind == "phi3":
            fuse = lambda name, parts: w.update({p + name: np.concatenate([w.pop(p + part) for part in parts])})
            fuse("self_attn.qkv_proj.weight", [f"self_attn.{part}_proj.weight" for part in "qkv"])
            fuse("mlp.gate_up_proj.weight", ["mlp.gate_proj.weight", "mlp.up_proj.weight"])
    if not c["tied"]:
        w["lm_head.weight"] = matrix(c["vocab"], h, 3.0)
    return w


def hf_config(c):
    """config.json, in the words of the files that are out there."""
    config = {
        "architectures": [CLASSES[c["family"]].__name__], "model_type": c["family"], "hidden_act": "silu",
        "num_hidden_layers": c["layers"], "hidden_size": c["hidden"], "intermediate_size": c["ffn"],
        "num_attention_heads": c["heads"], "num_key_value_heads": c["kv_heads"], "head_dim": c["head_dim"],
        "vocab_size": c["vocab"], "max_position_embeddings": 1024, "rms_norm_eps": c["eps"],
        "tie_word_embeddings": c["tied"], "attention_bias": False, "mlp_bias": False,
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": str(TORCH.get(c["dtype"], torch.float32)).split(".")[1],
    }
    if "rope_parameters" not in c["rope"]:
        config["rope_theta"] = c["theta"]
    if c["family"] in ("smollm3", "phi3"):  # whose own lies beyond a tiny vocabulary
        config["pad_token_id"] = 0
    return config | c["config"] | c["rope"]


def write_quantized(c, weights, folder):
    options = c["quantization"]
    config = hf_config(c) | {"quantization_config": quantized_checkpoints.quantization_config(**options)}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors, values = quantized_checkpoints.quantize(weights, np.random.default_rng(0), **options)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    plain = CLASSES[c["family"]].config_class(**hf_config(c))
    plain._attn_implementation = "eager"
    return fresh_model(plain, values, c["family"])


def write_safetensors(c, weights, folder):
    if "quantization" in c:
        return write_quantized(c, weights, folder)
    (folder / "config.json").write_text(json.dumps(hf_config(c), indent=1) + "\n")
    tensors = {name: torch.from_numpy(w).to(TORCH[c["dtype"]]) for name, w in weights.items()}
    if c["shards"] == 1:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    else:
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": {}}
        for s in range(c["shards"]):
            file = f"model-{s + 1:05}-of-{c['shards']:05}.safetensors"
            part = dict(list(tensors.items())[s::c["shards"]])  # a layer's tensors lie in different files
            safetensors.torch.save_file(part, folder / file, {"format": "pt"})
            index["weight_map"] |= dict.fromkeys(part, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return CLASSES[c["family"]].from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


GGUF_ARCHITECTURES = {  # in the words of the gguf package, and whether q and k are permuted
    "llama": (gguf.MODEL_ARCH.LLAMA, True),
    "mistral": (gguf.MODEL_ARCH.LLAMA, True),
    "smollm3": (gguf.MODEL_ARCH.SMOLLM3, True),
    "phi3": (gguf.MODEL_ARCH.PHI3, False),
    "granite": (gguf.MODEL_ARCH.GRANITE, True),
    "olmo2": (gguf.MODEL_ARCH.OLMO2, False),
    "qwen2": (gguf.MODEL_ARCH.QWEN2, False),
    "qwen3": (gguf.MODEL_ARCH.QWEN3, False),
}


def gguf_name(name, kind="llama", layers=1000):
    names = gguf.get_tensor_name_map(GGUF_ARCHITECTURES[kind][0], layers)
    return names.get_name(name, try_suffixes=(".weight", ".bias"))


def permute(w, heads):
    """GGUF rotates neighbouring rows (2i, 2i + 1) of a head where Hugging Face rotates (i, i + d / 2)."""
    return w.reshape(heads, 2, -1, w.shape[-1]).swapaxes(1, 2).reshape(w.shape)


def unpermute(w, heads):
    return w.reshape(heads, -1, 2, w.shape[-1]).swapaxes(1, 2).reshape(w.shape)


def fresh_model(config, weights, kind="llama"):
    model = CLASSES[kind](config)
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()}, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model.float().eval()


def byte_alphabet():
    """GPT-2's printable stand-in for each byte, by byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(other)) for b in range(256)]


def write_gguf(c, weights, folder):
    architecture, permuted = GGUF_ARCHITECTURES[c["family"]]
    out = gguf.GGUFWriter(folder / "model.gguf", gguf.MODEL_ARCH_NAMES[architecture])
    out.add_context_length(1024)
    out.add_embedding_length(c["hidden"])
    out.add_block_count(c["layers"])
    out.add_feed_forward_length(c["ffn"])
    out.add_head_count(c["heads"])
    out.add_head_count_kv(c["kv_heads"])
    if c["hidden"] != c["heads"] * c["head_dim"]:
        out.add_key_length(c["head_dim"])
        out.add_value_length(c["head_dim"])
    config = c["config"]
    rotary_dim = int(c["head_dim"] * config.get("partial_rotary_factor", 1))
    out.add_rope_dimension_count(rotary_dim)
    out.add_rope_freq_base(c["theta"])
    if "sliding_window" in config:
        out.add_sliding_window(config["sliding_window"])
    if c["family"] == "granite":
        out.add_embedding_scale(config["embedding_multiplier"])
        out.add_residual_scale(config["residual_multiplier"])
        out.add_attention_scale(config["attention_multiplier"])
        out.add_logit_scale(config["logits_scaling"])
    out.add_layer_norm_rms_eps(c["eps"])
    out.add_vocab_size(c["vocab"])
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(byte_alphabet()[1:] + ["th", "<|end|>"])
    out.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL])
    out.add_token_merges(["t h"])
    out.add_bos_token_id(256)
    out.add_eos_token_id(256)
    out.add_add_bos_token(False)

    rope = {"rope_type": "default"}
    if "rope_scaling" in c["rope"]:  # longrope
        original, scaling = config["original_max_position_embeddings"], c["rope"]["rope_scaling"]
        out.add_rope_scaling_orig_ctx_len(original)
        out.add_rope_scaling_attn_factors(np.sqrt(1 + np.log(1024 / original) / np.log(original)))
        for name in ("long", "short"):
            out.add_tensor(f"rope_factors_{name}.weight", np.array(scaling[f"{name}_factor"], np.float32))
        rope = dict(scaling, rope_type="longrope", partial_rotary_factor=config["partial_rotary_factor"])
    if "type" in c["rope"]:
        out.add_rope_scaling_type(gguf.RopeScalingType(c["rope"]["type"]))
        out.add_rope_scaling_factor(c["rope"]["factor"])
        rope = {"rope_type": c["rope"]["type"], "factor": c["rope"]["factor"]}
        if "original" in c["rope"]:
            out.add_rope_scaling_orig_ctx_len(c["rope"]["original"])
            rope["original_max_position_embeddings"] = c["rope"]["original"]
    config = CLASSES[c["family"]].config_class(**(hf_config(dict(c, rope={})) | {
        "rope_parameters": rope | c["rope"].get("rope_freqs", {}) | {"rope_theta": c["theta"]}}))
    config._attn_implementation = "eager"
    if "rope_freqs" in c["rope"]:  # llama3 reaches a GGUF as the divisors of the plain frequencies
        scaled = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0].numpy()
        plain = 1.0 / c["theta"] ** (np.arange(0, c["head_dim"], 2) / c["head_dim"])
        out.add_tensor("rope_freqs.weight", (plain / scaled).astype(np.float32))

    dequantized = {}
    for name, w in weights.items():
        kind = "f32" if w.ndim == 1 else c["dtype"]
        if name == "model.embed_tokens.weight":
            kind = c.get("embedding", kind)
        heads = {"q_proj": c["heads"], "k_proj": c["kv_heads"]}.get(name.split(".")[-2]) if permuted else None
        quantized = gguf.quants.quantize(permute(w, heads) if heads else w, GGML[kind])
        out.add_tensor(gguf_name(name, c["family"], c["layers"]), quantized, raw_dtype=GGML[kind])
        w = gguf.quants.dequantize(quantized, GGML[kind])
        dequantized[name] = unpermute(w, heads) if heads else w
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return fresh_model(config, dequantized, c["family"])


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids])).logits[0].numpy()


@torch.no_grad()
def greedy(model, prompt, count):
    """`count` tokens after `prompt`, and the smallest lead of a chosen one, in standard deviations."""
    ids, past, margin = torch.tensor([prompt]), None, np.inf
    tokens = []
    for _ in range(count):
        step = model(ids, past_key_values=past, use_cache=True)
        past, row = step.past_key_values, step.logits[0, -1]
        best = row.topk(2)
        margin = min(margin, float((best.values[0] - best.values[1]) / row.std()))
        tokens.append(int(best.indices[0]))
        ids = torch.tensor([[tokens[-1]]])
    return tokens, margin


def write_json(path, value):
    text = json.dumps(value, indent=1)
    path.write_text(text.replace(",\n  ", ", ") + "\n")


def make_tiny(only):
    for name, c in (SAFETENSORS | GGUF).items():
        if only and only not in name:
            continue
        folder = HERE / "tiny" / name
        for seed in range(200):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            rng = np.random.default_rng([seed, *name.encode()])
            weights = random_weights(c, rng)
            model = (write_gguf if name in GGUF else write_safetensors)(c, weights, folder)
            ids = [int(t) for t in rng.integers(0, c["vocab"], c["tokens"])]
            prompt = ids[:23]
            tokens, margin = greedy(model, prompt, 40)
            if margin >= MIN_MARGIN and len(set(tokens)) >= 12:
                break
        else:
            raise SystemExit(f"{name}: no seed gives decided greedy tokens")
        logits = logits_of(model, ids)
        np.save(folder / "logits.npy", logits)
        write_json(folder / "golden.json", {
            "made_by": f"transformers {transformers.__version__}, torch {torch.__version__}", "seed": seed,
            "token_ids": ids, "prompt_token_ids": prompt, "greedy_token_ids": tokens, "greedy_min_margin": margin})
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: seed {seed}, {size:,} bytes, margin {margin:.3f}, "
              f"{len(set(tokens))} distinct tokens, logit std {logits.std():.2f}")


def dequantized_llama(path):
    """The model of a GGUF file in fp32, checked against transformers' own reading of it."""
    reader = gguf.GGUFReader(path)
    key = lambda name: reader.fields["llama." + name].contents()
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    config = transformers.LlamaConfig(
        num_hidden_layers=key("block_count"), hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"), num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"), vocab_size=key("vocab_size"),
        max_position_embeddings=key("context_length"), rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": key("rope.freq_base")}, tie_word_embeddings="output.weight" not in tensors)
    config._attn_implementation = "eager"
    weights = {}
    for name in transformers.LlamaForCausalLM(config).state_dict():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        w = tensors[gguf_name(name)]
        weights[name] = unpermute(w, heads) if heads else w
    model = fresh_model(config, weights)
    path = pathlib.Path(path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    for name, w in theirs.state_dict().items():
        assert torch.equal(w, model.state_dict()[name]), f"{name} is not what transformers reads"
    assert theirs.config.rope_parameters["rope_theta"] == config.rope_parameters["rope_theta"]
    assert theirs.config.rms_norm_eps == config.rms_norm_eps

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(
        {t: i for i, t in enumerate(reader.fields["tokenizer.ggml.tokens"].contents())},
        [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]))
    assert reader.fields["tokenizer.ggml.pre"].contents() == "smollm"  # transformers does not look at it
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    bpe.decoder = tokenizers.decoders.ByteLevel()
    return model, bpe


PROMPT = "Once upon a time, in a small village by the sea, there lived a clockmaker who"


def make_smollm2(path):
    model, bpe = dequantized_llama(path)
    folder = HERE / "smollm2"
    made_by = {
        "made_by": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "model_sha256": hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()}

    ids = bpe.encode((folder / "text.txt").read_text()).ids[:500]
    logits = logits_of(model, ids)
    sample = np.sort(np.random.default_rng(1).choice(logits.shape[1], 64, replace=False))
    top = np.argsort(-logits, axis=1, kind="stable")[:, :8]
    exact = logits.astype(np.float64)
    np.save(folder / "sample_logits.npy", np.ascontiguousarray(logits[:, sample]))
    np.save(folder / "top_ids.npy", top.astype(np.int32))
    np.save(folder / "top_logits.npy", np.take_along_axis(logits, top, 1))
    np.save(folder / "summary.npy", np.stack([logsumexp(exact), exact.mean(1), exact.std(1)], 1).astype(np.float32))

    prompt = bpe.encode(PROMPT).ids
    tokens, margin = greedy(model, prompt, 200)
    print(f"margin {margin:.4f}, {len(set(tokens))} distinct tokens: {bpe.decode(tokens)!r}")
    write_json(folder / "golden.json", made_by | {
        "token_ids": ids, "sample_ids": sample.tolist(), "prompt": PROMPT, "prompt_token_ids": prompt,
        "greedy_token_ids": tokens, "greedy_text": bpe.decode(tokens), "greedy_min_margin": margin})

    kl_ids = bpe.encode((HERE / "kl_text.txt").read_text()).ids
    write_json(folder / "kl.json", made_by | {"token_ids": kl_ids, "num_top": KL_TOP, "num_drawn": KL_DRAWN})
    kept, kept_logprobs = kl_base(logits_of(model, kl_ids))
    np.save(folder / "kl_ids.npy", kept)
    np.save(folder / "kl_logprobs.npy", kept_logprobs)


def logsumexp(rows):
    top = rows.max(1)
    return top + np.log(np.exp(rows - top[:, None]).sum(1))


KL_TOP, KL_DRAWN = 32, 32


def kl_base(logits):
    """Of each row's distribution p: the likeliest KL_TOP tokens, then KL_DRAWN drawn from the others by their
    probability, as ids and natural log-probabilities. README.md says how KL(p || q) follows from them."""
    rng = np.random.default_rng(2)
    ids = np.empty((len(logits), KL_TOP + KL_DRAWN), np.uint16)
    logprobs = np.empty(ids.shape, np.float32)
    rows = logits.astype(np.float64)
    rows -= logsumexp(rows)[:, None]
    for t, row in enumerate(rows):
        order = np.argsort(-row, kind="stable")
        tail = order[KL_TOP:]
        p = np.exp(row[tail])
        ids[t, :KL_TOP] = order[:KL_TOP]
        ids[t, KL_TOP:] = rng.choice(tail, KL_DRAWN, p=p / p.sum())
        logprobs[t] = row[ids[t]]
    return ids, logprobs


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["tiny", "smollm2"])
    arguments.add_argument("--model", default=pathlib.Path.home() / ".cache/redline/SmolLM2-135M-Instruct.Q4_1.gguf")
    arguments.add_argument("--only", help="of the tiny models, those whose name contains this")
    arguments = arguments.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    make_tiny(arguments.only) if arguments.what == "tiny" else make_smollm2(arguments.model)
