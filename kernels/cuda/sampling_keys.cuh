// What the sampling kernels share: a choice's parameters, where its logits lie, and tokens as keys that order
// as choices do.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kSamplingThreads = 256;
inline constexpr int kMaxVocabularySplits = 64;
inline constexpr float kLeastExponent = -42.0f;  // of e: what weighs less counts for nothing

/// How one token is chosen.
struct RowSampling {
  double uniform = 0;                     // [0, 1): which part of the probability is drawn
  float temperature = 0;                  // 0: the largest; then what follows does not matter
  float least_exponent = kLeastExponent;  // of (logit - largest) / temperature: log(min_p), or kLeastExponent
  std::int32_t top_k = 0;                 // <= 0: off
  float top_p = 1;                        // 1: off
  std::int32_t row = 0;                   // of the logits
  std::int32_t prepared = -1;  // of the prepared rows, which take the place of the logits; -1: none
};

struct SamplingArgs {
  const float* logits = nullptr;
  std::int64_t logits_stride = 0;
  const float* prepared = nullptr;       // rows of `vocabulary` rounded up to 8
  const RowSampling* choices = nullptr;  // [num_choices]
  int num_choices = 0;
  int vocabulary = 0;
  std::int32_t* tokens = nullptr;  // [num_choices]
  std::uint64_t* keys = nullptr;   // sampling_keys(num_choices), overwritten
  bool draws = false;              // whether any temperature may be above 0
  int num_splits = 0;              // chosen by the launcher

  DEV_INLINE const float* row(const RowSampling& choice) const {
    return choice.prepared >= 0 ? prepared + std::int64_t{choice.prepared} * prepared_stride(vocabulary)
                                : logits + choice.row * logits_stride;
  }
  DEV_HOST_INLINE static std::int64_t prepared_stride(int vocabulary) { return (vocabulary + 7) / 8 * 8; }
};

/// Elements of SamplingArgs::keys for so many choices.
constexpr std::int64_t sampling_keys(std::int64_t num_choices) { return num_choices * kMaxVocabularySplits; }

inline constexpr std::uint64_t kBrokenKey = ~std::uint64_t{0};

/// Orders as (logit, -token); 0 for a forbidden token, kBrokenKey for NaN and +infinity.
DEV_INLINE std::uint64_t choice_key(float logit, std::uint32_t token) {
  if (!(logit < INFINITY)) return kBrokenKey;
  if (logit == -INFINITY) return 0;
  const std::uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 ties with 0
  const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return std::uint64_t{ordered} << 32 | (0xffffffffu - token);
}
DEV_HOST_INLINE std::int32_t chosen_token(std::uint64_t key) {
  return key == 0 || key == kBrokenKey
             ? -1
             : static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(key));
}

DEV_INLINE std::uint64_t warp_max(std::uint64_t key) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    const std::uint64_t other = __shfl_xor_sync(kAllLanes, key, distance);
    key = other > key ? other : key;
  }
  return key;
}

/// Tokens [8 octet, 8 octet + 8) of a row, forbidden past its end. V: 8, or 1 where rows are not aligned.
template <int V>
DEV_INLINE void load_octet(const float* logits, int octet, int vocabulary, float (&values)[8]) {
  if constexpr (V == 8) {
    load_elements(logits + 8 * octet, values);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = 8 * octet + i < vocabulary ? logits[8 * octet + i] : -INFINITY;
  }
}

}  // namespace redline::cuda
