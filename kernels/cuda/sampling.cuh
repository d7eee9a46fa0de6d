// Chooses a token of each row of logits: the largest, or one drawn from softmax(logits / temperature).
//
// Drawing is a maximum too: of logit / temperature + g, with g = -log(E) for E exponential, independent for
// each token (the Gumbel-max trick, Gumbel 1954). E = -log(1 - v), v uniform from Philox 4x32-10 (Salmon et
// al. 2011) keyed by the row's seed and counted by (step, token), so that a choice depends on the row's
// logits and parameters alone.
//
// top_k, top_p and min_p first become the least key that they leave (sampling_filter.cuh).
//
// A row is cut into splits; a block owns one, and reduces (value, token) as one ordered 64-bit key: the
// larger value wins, then the lower token; broken logits win over all. A second launch, a warp a row, reduces
// splits. Limit: bytes of the logits, once. Share reached: not yet measured.
#pragma once

#include <algorithm>

#include "kernels/cuda/sampling_filter.cuh"

namespace redline::cuda {

DEV_INLINE std::uint64_t wide_product(std::uint32_t a, std::uint32_t b) { return std::uint64_t{a} * b; }

/// Four random words of counter (step, index) under `seed`.
DEV_INLINE void philox(std::uint64_t seed, std::uint64_t step, std::uint32_t index,
                       std::uint32_t (&words)[4]) {
  std::uint32_t key[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  words[0] = index, words[1] = static_cast<std::uint32_t>(step);
  words[2] = static_cast<std::uint32_t>(step >> 32), words[3] = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = wide_product(0xd2511f53u, words[0]);
    const std::uint64_t second = wide_product(0xcd9e8d57u, words[2]);
    words[0] = static_cast<std::uint32_t>(second >> 32) ^ words[1] ^ key[0];
    words[1] = static_cast<std::uint32_t>(second);
    words[2] = static_cast<std::uint32_t>(first >> 32) ^ words[3] ^ key[1];
    words[3] = static_cast<std::uint32_t>(first);
    key[0] += 0x9e3779b9u;
    key[1] += 0xbb67ae85u;
  }
}

/// -log(-log(1 - v)), v the uniform number that `word` stands for; at most 23, never infinite.
DEV_INLINE float gumbel(std::uint32_t word) {
  const float v = (static_cast<float>(word) + 0.5f) * 0x1p-32f;
  return -logf(-log1pf(-fminf(v, 1.0f - 0x1p-24f)));
}

// V: 8, or 1 where rows are not aligned. Threads take 8 consecutive tokens at a time either way: two blocks
// of random words.
template <int V>
__global__ void __launch_bounds__(kSamplingThreads) choose_kernel(const SamplingArgs args) {
  const int row = static_cast<int>(blockIdx.y), split = static_cast<int>(blockIdx.x);
  const float* const logits = args.logits + row * args.logits_stride;
  RowSampling sampling;
  if (args.rows != nullptr) sampling = args.rows[row];
  const bool draws = sampling.temperature > 0;
  const float scale = draws ? 1.0f / sampling.temperature : 1.0f;
  const std::uint64_t least = draws && args.filters ? args.least_keys()[row] : 0;

  const int octets = (args.vocabulary + 7) / 8;
  const int begin = static_cast<int>(std::int64_t{octets} * split / args.num_splits);
  const int end = static_cast<int>(std::int64_t{octets} * (split + 1) / args.num_splits);
  std::uint64_t best = 0;
  for (int octet = begin + thread_index(); octet < end; octet += kSamplingThreads) {
    float values[8];
    load_octet<V>(logits, octet, args.vocabulary, values);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t words[4];
      if (draws) philox(sampling.seed, sampling.step, static_cast<std::uint32_t>(2 * octet + half), words);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float logit = values[4 * half + i];
        const float score = draws ? logit * scale + gumbel(words[i]) : logit;
        const auto token = static_cast<std::uint32_t>(8 * octet + 4 * half + i);
        const std::uint64_t key = choice_key(logit, score, token);
        if (key > best && choice_key(logit, logit, token) >= least) best = key;
      }
    }
  }
  constexpr int kWarps = kSamplingThreads / kWarpSize;
  DEV_SHARED(std::uint64_t, warp_best, [kWarps]);
  best = warp_max(best);
  if (lane_index() == 0) warp_best[warp_index()] = best;
  __syncthreads();
  if (warp_index() > 0) return;
  best = warp_max(lane_index() < kWarps ? warp_best[lane_index()] : 0);
  if (lane_index() != 0) return;
  if (args.num_splits == 1)
    args.tokens[row] = chosen_token(best);
  else
    args.keys[row * kMaxVocabularySplits + split] = best;
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) choose_among_splits_kernel(const SamplingArgs args) {
  const int row = static_cast<int>(grid_thread<kThreads>() / kWarpSize);
  if (row >= args.num_rows) return;
  std::uint64_t best = 0;
  for (int split = lane_index(); split < args.num_splits; split += kWarpSize) {
    const std::uint64_t key = args.keys[row * kMaxVocabularySplits + split];
    best = key > best ? key : best;
  }
  best = warp_max(best);
  if (lane_index() == 0) args.tokens[row] = chosen_token(best);
}

/// tokens[r] = the token chosen of logits[r, 0 .. vocabulary): the largest where the row's temperature is 0,
/// ties to the lower id; else drawn from what min_p, then top_k, then top_p leave. -infinity forbids a token.
/// -1: the row holds NaN or +infinity, or nothing is left to choose. Drawing is not bit for bit the CPU's:
/// the generator and the order of sums differ.
inline void choose_tokens(SamplingArgs args, dev::stream_t stream) {
  if (args.num_rows == 0) return;
  constexpr int kEnoughBlocks = 264, kLeastTokens = 4096;
  args.num_splits = std::clamp(std::min(kEnoughBlocks / args.num_rows, args.vocabulary / kLeastTokens), 1,
                               kMaxVocabularySplits);
  const bool vectors = args.vocabulary % 8 == 0 && vectors_fit(args.logits, args.logits_stride);
  if (args.filters)
    dev::launch(vectors ? least_key_kernel<8> : least_key_kernel<1>,
                dim3(static_cast<unsigned>(args.num_rows)), dim3(kFilterThreads), 0, stream, args);
  dev::launch(vectors ? choose_kernel<8> : choose_kernel<1>,
              dim3(static_cast<unsigned>(args.num_splits), static_cast<unsigned>(args.num_rows)),
              dim3(kSamplingThreads), 0, stream, args);
  if (args.num_splits > 1)
    dev::launch(choose_among_splits_kernel<kSamplingThreads>,
                grid_for<kSamplingThreads>(std::int64_t{args.num_rows} * kWarpSize), dim3(kSamplingThreads),
                0, stream, args);
}

}  // namespace redline::cuda
