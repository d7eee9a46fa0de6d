// What each tensor of a model is for.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model_config.h"

namespace redline {

/// From kAttnNorm on, one in each layer.
enum class TensorRole : std::uint8_t {
  kEmbedding,
  kFinalNorm,
  kHead,
  kAttnNorm,
  kQ,
  kK,
  kV,
  kQBias,
  kKBias,
  kVBias,
  kQNorm,
  kKNorm,
  kO,
  kFfnNorm,
  kGate,
  kUp,
  kDown
};
inline constexpr int kNumTensorRoles = 17;
constexpr bool is_per_layer(TensorRole role) { return role >= TensorRole::kAttnNorm; }

/// Whether models of this configuration have such a tensor: a tied one has no kHead.
bool has_tensor(TensorRole role, const ModelConfig& config);

/// Row-major: embedding and head [V, H], norms [H], q [Hq d, H], k and v [Hkv d, H], their biases [Hq d] and
/// [Hkv d], norms of q and k as QkNorm says, o [H, Hq d], gate and up [F, H], down [H, F].
std::vector<std::int64_t> tensor_shape(TensorRole role, const ModelConfig& config);

/// Calls visit(role, layer) for every tensor of a model, in the order of the forward pass.
template <class Visit>
void for_each_tensor(const ModelConfig& config, Visit&& visit) {
  const auto visit_one = [&](TensorRole role, std::int64_t layer) {
    if (has_tensor(role, config)) visit(role, layer);
  };
  visit_one(TensorRole::kEmbedding, std::int64_t{0});
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    for (int role = static_cast<int>(TensorRole::kAttnNorm); role < kNumTensorRoles; ++role)
      visit_one(static_cast<TensorRole>(role), layer);
  visit_one(TensorRole::kFinalNorm, std::int64_t{0});
  visit_one(TensorRole::kHead, std::int64_t{0});
}

}  // namespace redline
