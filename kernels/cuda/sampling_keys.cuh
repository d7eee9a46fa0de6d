// What the sampling kernels share: a row's parameters, and tokens as keys that order as choices do.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace redline::cuda {

inline constexpr int kSamplingThreads = 256;
inline constexpr int kMaxVocabularySplits = 64;

/// How a row is sampled, in device memory so that a captured step can be replayed.
struct RowSampling {
  float temperature = 0;   // 0: the largest; then what follows does not matter
  std::int32_t top_k = 0;  // <= 0: off
  float top_p = 1;         // 1: off
  float min_p = 0;         // 0: off
  std::uint64_t seed = 0;
  std::uint64_t step = 0;  // of the answer: the same seed draws anew at each
};

struct SamplingArgs {
  const float* logits = nullptr;
  std::int64_t logits_stride = 0;
  const RowSampling* rows = nullptr;  // [num_rows]; null: the largest of each
  int num_rows = 0;
  int vocabulary = 0;
  std::int32_t* tokens = nullptr;  // [num_rows]
  std::uint64_t* keys = nullptr;   // sampling_keys(num_rows), overwritten
  bool filters = false;            // whether any row may have top_k, top_p or min_p on
  int num_splits = 0;              // chosen by the launcher

  /// [num_rows] of `keys`, after the splits': what filters leave of a row.
  DEV_INLINE std::uint64_t* least_keys() const {
    return keys + std::int64_t{num_rows} * kMaxVocabularySplits;
  }
};

/// Elements of SamplingArgs::keys for so many rows.
constexpr std::int64_t sampling_keys(std::int64_t num_rows) { return num_rows * (kMaxVocabularySplits + 1); }

inline constexpr std::uint64_t kBrokenKey = ~std::uint64_t{0};

/// Orders as (score, -token); 0 for a forbidden token, kBrokenKey for NaN and +infinity.
DEV_INLINE std::uint64_t choice_key(float logit, float score, std::uint32_t token) {
  if (!(logit < INFINITY)) return kBrokenKey;
  if (logit == -INFINITY) return 0;
  const std::uint32_t bits = __float_as_uint(score + 0.0f);  // -0 ties with 0
  const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return std::uint64_t{ordered} << 32 | (0xffffffffu - token);
}
DEV_INLINE std::int32_t chosen_token(std::uint64_t key) {
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
