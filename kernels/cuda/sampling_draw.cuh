// Draws a token of a row of logits by its probability, among those that min_p, top_k and top_p leave: the
// token that the host's sampler (engine/draw.cpp) draws from the same logits with the same uniform number.
//
// A token weighs w = e^((logit - largest) / temperature), 0 below least_exponent, by the host's polynomial in
// the host's order of roundings: bit for bit the same f32. top_k and top_p become the least key that stays
// (sampling_filter.cuh). Then the sum of all that stay, in order of ids, is walked to where it passes uniform
// times the whole: by blocks of 256 tokens, summed as the host sums them (16 f32 chains, then f64), so that
// the same token comes out. Where the set that top_p leaves hangs on less than 2^-29 of the whole weight, it
// may differ from the host's by a token: the host adds f64 in another order, this kernel integers of 2^-46.
//
// One block owns one choice. Limit: bytes of the logits from L2: twice, and about three times more for each
// of top_k and top_p. Share reached: not yet measured.
#pragma once

#include "kernels/cuda/sampling_filter.cuh"

namespace redline::cuda {

inline constexpr int kDrawChains = 16;
inline constexpr int kDrawBlock = 256;       // tokens that are summed apart
inline constexpr int kMaxDrawBlocks = 2048;  // so that their sums fit into shared memory
inline constexpr int kMaxDrawVocabulary = kMaxDrawBlocks * kDrawBlock;

/// e^x for x in [-87, 0], as engine/draw.cpp computes it; no product is fused with a sum.
DEV_INLINE float draw_exp(float x) {
  const float shifted = __fadd_rn(__fmul_rn(x, 1.44269504f), 12582912.0f);
  const float n = __fsub_rn(shifted, 12582912.0f);
  const float r = __fsub_rn(__fsub_rn(x, __fmul_rn(n, 0.693359375f)), __fmul_rn(n, -2.12194440e-4f));
  float p = 1.9875691500e-4f;
  p = __fadd_rn(__fmul_rn(p, r), 1.3981999507e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 8.3334519073e-3f);
  p = __fadd_rn(__fmul_rn(p, r), 4.1665795894e-2f);
  p = __fadd_rn(__fmul_rn(p, r), 1.6666665459e-1f);
  p = __fadd_rn(__fmul_rn(p, r), 5.0000001201e-1f);
  p = __fadd_rn(__fadd_rn(__fmul_rn(p, __fmul_rn(r, r)), r), 1.0f);
  return __uint_as_float(__float_as_uint(p) + (__float_as_uint(shifted) << 23));
}

/// What a row's tokens weigh.
struct DrawWeights {
  const float* logits;
  float largest;
  float temperature;
  float least_exponent;
  std::uint64_t least_key;

  DEV_INLINE float of_logit(float logit) const {
    const float x = __fdiv_rn(__fsub_rn(logit, largest), temperature);
    const float weight = draw_exp(x < kLeastExponent ? kLeastExponent : x);
    return x >= least_exponent ? weight : 0.0f;
  }
  DEV_INLINE float of_token(int token) const {
    const float logit = logits[token];
    return choice_key(logit, static_cast<std::uint32_t>(token)) >= least_key ? of_logit(logit) : 0.0f;
  }
};

// The sum of the block of tokens from `first` on, in every lane of the half warp that asks.
DEV_INLINE double sum_draw_block(const DrawWeights& weights, int first, int vocabulary) {
  const int chain = lane_index() % kDrawChains, half = lane_index() / kDrawChains * kDrawChains;
  const int size = vocabulary - first < kDrawBlock ? vocabulary - first : kDrawBlock;
  const int whole = size < 0 ? 0 : size / kDrawChains * kDrawChains;
  float own = 0;
  for (int i = 0; i < whole; i += kDrawChains) own = __fadd_rn(own, weights.of_token(first + i + chain));
  double sum = 0;
#pragma unroll
  for (int i = 0; i < kDrawChains; ++i) sum += static_cast<double>(__shfl_sync(kAllLanes, own, half + i));
  for (int i = whole; i < size; ++i) sum += static_cast<double>(weights.of_token(first + i));
  return sum;
}

/// Where a draw falls.
struct DrawPlace {
  double target;  // less what the blocks before weigh
  int block;      // the last with any weight, should rounding pass the end
  bool is_within;
};
// One thread: which block the draw falls into.
DEV_INLINE DrawPlace find_draw_block(const double* sums, int num_blocks, double uniform) {
  double total = 0;
  for (int i = 0; i < num_blocks; ++i) total += sums[i];
  DrawPlace place{__dmul_rn(uniform, total), 0, false};
  for (int i = 0; i < num_blocks; ++i) {
    if (sums[i] == 0) continue;
    place.block = i;
    if (place.target < sums[i]) {
      place.is_within = true;
      break;
    }
    place.target -= sums[i];
  }
  return place;
}
// One thread: which token of the block's `count`.
DEV_INLINE int find_drawn_token(const float* weights, int count, const DrawPlace& place) {
  double target = place.target;
  int token = 0;
  for (int i = 0; i < count; ++i) {
    if (weights[i] == 0) continue;
    token = i;
    target -= static_cast<double>(weights[i]);
    if (place.is_within && target < 0) break;
  }
  return token;
}

template <int V>
__global__ void __launch_bounds__(kFilterThreads, 1) draw_kernel(const SamplingArgs args) {
  const RowSampling choice = args.choices[blockIdx.x];
  const int largest = args.tokens[blockIdx.x];
  if (choice.temperature == 0 || largest < 0) return;
  DEV_SHARED(DigitHistogram, histogram);
  DEV_SHARED(KeySearch, search);
  DEV_SHARED(DrawPlace, place);
  DEV_SHARED(double, sums, [kMaxDrawBlocks]);
  DEV_SHARED(float, block_weights, [kDrawBlock]);
  const int vocabulary = args.vocabulary;
  const float* const logits = args.row(choice);
  DrawWeights weights{logits, logits[largest], choice.temperature, choice.least_exponent, 0};
  if (choice.top_k > 0 && choice.top_k < vocabulary)
    weights.least_key = key_that_reaches<V>(
        logits, vocabulary, 0, static_cast<std::uint64_t>(choice.top_k), -1,
        [&](float logit) { return weights.of_logit(logit) > 0 ? 1ull : 0ull; }, histogram, search);
  __syncthreads();
  if (choice.top_p < 1)
    weights.least_key = key_that_reaches<V>(
        logits, vocabulary, weights.least_key, 0, static_cast<double>(choice.top_p),
        [&](float logit) { return static_cast<unsigned long long>(weights.of_logit(logit) * 0x1p46f); },
        histogram, search);

  const int num_blocks = (vocabulary + kDrawBlock - 1) / kDrawBlock;
  constexpr int kAtOnce = kFilterThreads / kDrawChains;
  for (int first = 0; first < num_blocks; first += kAtOnce) {  // all lanes of a warp come along
    const int block = first + thread_index() / kDrawChains;
    const double sum = sum_draw_block(weights, block * kDrawBlock, vocabulary);
    if (block < num_blocks && thread_index() % kDrawChains == 0) sums[block] = sum;
  }
  __syncthreads();
  if (thread_index() == 0) place = find_draw_block(sums, num_blocks, choice.uniform);
  __syncthreads();
  const int begin = place.block * kDrawBlock;
  const int count = vocabulary - begin < kDrawBlock ? vocabulary - begin : kDrawBlock;
  for (int i = thread_index(); i < count; i += kFilterThreads) block_weights[i] = weights.of_token(begin + i);
  __syncthreads();
  if (thread_index() == 0) args.tokens[blockIdx.x] = begin + find_drawn_token(block_weights, count, place);
}

}  // namespace redline::cuda
