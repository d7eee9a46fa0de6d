// What model files call the tensor of each role.
#pragma once

#include <cstdint>
#include <string>

#include "engine/model_config.h"
#include "engine/tensor_role.h"

namespace redline {

/// A layer's tensor is called layer_prefix, the layer's number, ".", then its role's name.
struct TensorNames {
  const char* layer_prefix;
  const char* role_names[kNumTensorRoles];
  const char *attn_norm_after, *ffn_norm_after;  // the norms' names where they stand after their block
  const char *fused_qkv, *fused_gate_up;         // Q, K, V as one tensor; gate and up

  std::string name(TensorRole role, std::int64_t layer, NormPlacement norms) const;
  std::string in_layer(std::int64_t layer, const char* tensor) const {
    return layer_prefix + std::to_string(layer) + "." + tensor;
  }
};

extern const TensorNames kGgufNames, kHfNames;

}  // namespace redline
