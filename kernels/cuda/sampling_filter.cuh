// The least of the largest keys of a row (choice_key of the logits) that weigh enough together, without
// sorting it. Weight 1 for each token and a target of k: top_k; its probability and a share of the whole:
// top_p.
//
// The key is found 11 bits at a time from the top: a histogram of the weights of keys that begin with the
// bits known so far names the next bits. A block owns a row; a digit left with one token ends the search
// early. Weights are 64-bit integers, so that sums do not depend on the order of atomics. Limit: bytes of the
// logits from L2, about three times a search. Share reached: not yet measured.
#pragma once

#include "kernels/cuda/sampling_keys.cuh"

namespace redline::cuda {

inline constexpr int kFilterThreads = 1024;
inline constexpr int kDigitBits = 11;
inline constexpr int kNumDigits = 1 << kDigitBits;

struct DigitHistogram {
  std::uint64_t weight[kNumDigits];
  std::uint32_t count[kNumDigits];
};

/// Where a search stands: the key sought begins with `prefix`; keys that begin with larger bits weigh
/// `above`.
struct KeySearch {
  std::uint64_t prefix;
  std::uint64_t above;
  std::uint64_t target;
  bool is_done;
};

// Warp 0: adds the digit to `search` at which the weights, from the largest digit down, reach the target; all
// free bits 0 and done where they never do. `share`: of the whole weight, becomes the target where it is not
// negative.
DEV_INLINE void find_digit(const DigitHistogram& histogram, int bits, double share, KeySearch& search) {
  constexpr int kOfLane = kNumDigits / kWarpSize;
  const KeySearch before = search;
  std::uint64_t own = 0;  // lane 0 has the largest digits
  for (int i = 0; i < kOfLane; ++i) own += histogram.weight[kNumDigits - 1 - lane_index() * kOfLane - i];
  std::uint64_t sum = own;  // of this lane's digits and all larger ones
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const std::uint64_t other = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(distance));
    if (lane_index() >= distance) sum += other;
  }
  const std::uint64_t total = __shfl_sync(kAllLanes, sum, kWarpSize - 1);
  const std::uint64_t target =
      share < 0 ? before.target
                : max(std::uint64_t{1}, static_cast<std::uint64_t>(ceil(share * static_cast<double>(total))));
  std::uint64_t above = before.above + sum - own;
  __syncwarp();  // all have read `search`
  if (lane_index() == 0 && before.above + total < target)
    search = {before.prefix << bits, above, target, true};
  if (above >= target || above + own < target) return;  // another lane's digits reach it, or none do
  int digit = kNumDigits - 1 - lane_index() * kOfLane;
  while (above + histogram.weight[digit] < target) above += histogram.weight[digit--];
  search = {before.prefix << bits | static_cast<std::uint64_t>(digit), above, target,
            histogram.count[digit] == 1};
}

/// The key at which the weights of the row's tokens of at least `least`, from the largest down, reach
/// `target` (or `share` of their sum, where it is not negative); `least` where they never do. By a whole
/// block, which all threads enter together; `weigh(logit)` is a token's weight, 0 of those to be left out.
template <int V, class Weigh>
DEV_INLINE std::uint64_t key_that_reaches(const float* logits, int vocabulary, std::uint64_t least,
                                          std::uint64_t target, double share, Weigh&& weigh,
                                          DigitHistogram& histogram, KeySearch& search) {
  if (thread_index() == 0) search = {0, 0, target, false};
  for (int shift = 64; shift > 0;) {
    const int bits = shift < kDigitBits ? shift : kDigitBits;
    shift -= bits;
    for (int i = thread_index(); i < kNumDigits; i += kFilterThreads) {
      histogram.weight[i] = 0;
      histogram.count[i] = 0;
    }
    __syncthreads();
    const std::uint64_t prefix = search.prefix;
    for (int octet = thread_index(); octet < (vocabulary + 7) / 8; octet += kFilterThreads) {
      float values[8];
      load_octet<V>(logits, octet, vocabulary, values);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const std::uint64_t key = choice_key(values[i], static_cast<std::uint32_t>(8 * octet + i));
        if (key < least || key == 0 || (shift + bits < 64 && key >> (shift + bits) != prefix)) continue;
        const unsigned long long weight = weigh(values[i]);
        if (weight == 0) continue;
        const auto digit = static_cast<int>(key >> shift & ((1u << bits) - 1));
        atomicAdd(reinterpret_cast<unsigned long long*>(&histogram.weight[digit]), weight);
        atomicAdd(&histogram.count[digit], 1u);
      }
    }
    __syncthreads();
    if (warp_index() == 0) find_digit(histogram, bits, shift + bits == 64 ? share : -1, search);
    __syncthreads();
    if (search.is_done) {
      const std::uint64_t key = search.prefix << shift;
      return key > least ? key : least;
    }
  }
  return search.prefix;
}

}  // namespace redline::cuda
