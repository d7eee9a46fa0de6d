// Chooses a token of each row of logits: the largest, or one drawn (sampling_draw.cuh).
//
// A row is cut into splits; a block owns one, and reduces (logit, token) as one ordered 64-bit key: the
// larger logit wins, then the lower token; broken logits win over all. A second launch, a warp a row, reduces
// splits; a third draws. Limit: bytes of the logits, once. Share reached: not yet measured.
#pragma once

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/sampling_draw.cuh"

namespace redline::cuda {

// V: 8, or 1 where rows are not aligned.
template <int V>
__global__ void __launch_bounds__(kSamplingThreads) largest_kernel(const SamplingArgs args) {
  const int index = static_cast<int>(blockIdx.y), split = static_cast<int>(blockIdx.x);
  const float* const logits = args.row(args.choices[index]);
  const int octets = (args.vocabulary + 7) / 8;
  const int begin = static_cast<int>(std::int64_t{octets} * split / args.num_splits);
  const int end = static_cast<int>(std::int64_t{octets} * (split + 1) / args.num_splits);
  std::uint64_t best = 0;
  for (int octet = begin + thread_index(); octet < end; octet += kSamplingThreads) {
    float values[8];
    load_octet<V>(logits, octet, args.vocabulary, values);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const std::uint64_t key = choice_key(values[i], static_cast<std::uint32_t>(8 * octet + i));
      best = key > best ? key : best;
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
    args.tokens[index] = chosen_token(best);
  else
    args.keys[index * kMaxVocabularySplits + split] = best;
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) largest_of_splits_kernel(const SamplingArgs args) {
  const int index = static_cast<int>(grid_thread<kThreads>() / kWarpSize);
  if (index >= args.num_choices) return;
  std::uint64_t best = 0;
  for (int split = lane_index(); split < args.num_splits; split += kWarpSize) {
    const std::uint64_t key = args.keys[index * kMaxVocabularySplits + split];
    best = key > best ? key : best;
  }
  best = warp_max(best);
  if (lane_index() == 0) args.tokens[index] = chosen_token(best);
}

/// Whether a kernel may read the rows that `args` names in vectors.
inline bool rows_fit_vectors(const SamplingArgs& args) {
  return args.vocabulary % 8 == 0 && vectors_fit(args.logits, args.logits_stride) &&
         vectors_fit(args.prepared, 8);
}

/// tokens[i] = the token chosen as choices[i] asks. -infinity forbids a token. -1: the row holds NaN or
/// +infinity, or nothing is left to choose. Draws take a vocabulary of kMaxDrawVocabulary at most.
inline void choose_tokens(SamplingArgs args, dev::stream_t stream) {
  if (args.num_choices == 0) return;
  constexpr int kEnoughBlocks = 264, kLeastTokens = 4096;
  args.num_splits = std::clamp(std::min(kEnoughBlocks / args.num_choices, args.vocabulary / kLeastTokens), 1,
                               kMaxVocabularySplits);
  const bool vectors = rows_fit_vectors(args);
  const auto choices = static_cast<unsigned>(args.num_choices);
  dev::launch(vectors ? largest_kernel<8> : largest_kernel<1>,
              dim3(static_cast<unsigned>(args.num_splits), choices), dim3(kSamplingThreads), 0, stream, args);
  if (args.num_splits > 1)
    dev::launch(largest_of_splits_kernel<kSamplingThreads>,
                grid_for<kSamplingThreads>(std::int64_t{args.num_choices} * kWarpSize),
                dim3(kSamplingThreads), 0, stream, args);
  if (!args.draws) return;
  REDLINE_CHECK(args.vocabulary <= kMaxDrawVocabulary, "a vocabulary whose block sums fit shared memory");
  dev::launch(vectors ? draw_kernel<8> : draw_kernel<1>, dim3(choices), dim3(kFilterThreads), 0, stream,
              args);
}

}  // namespace redline::cuda
