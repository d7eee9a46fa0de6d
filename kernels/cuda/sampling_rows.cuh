// Rows of logits around a choice: what a request changes in its row before (a mask, penalties, biases), in a
// copy; and what it asks of the row itself after (logprobs).
//
// prepare: a thread copies a token of a row, -infinity where its bit is clear (broken logits stay and show).
// edit: a thread changes one logit of a copy (LogitEdit, kernels/token_sampling.h), with the host's
// roundings. logprobs: a block owns a row: its largest key, then log(sum(exp)) in f64, then the key that
// leaves the n likeliest (sampling_filter.cuh), which are listed in any order. Limit: bytes of the logits.
// Share reached: not yet measured.
#pragma once

#include "kernels/cuda/sampling_filter.cuh"
#include "kernels/token_sampling.h"

namespace redline::cuda {

/// A row to copy.
struct PreparedRow {
  std::int32_t row = 0;
  std::int32_t first_mask_word = -1;  // -1: all are allowed
};
/// A change to a copy.
struct PreparedEdit {
  std::int32_t prepared = 0;
  LogitEdit edit;
};

struct PrepareArgs {
  const float* logits = nullptr;
  std::int64_t logits_stride = 0;
  int vocabulary = 0;
  const PreparedRow* rows = nullptr;  // [num_rows]
  const std::uint64_t* mask_words = nullptr;
  const PreparedEdit* edits = nullptr;  // [num_edits]
  int num_rows = 0, num_edits = 0;
  float* prepared = nullptr;  // rows of SamplingArgs::prepared_stride(vocabulary)
};

template <int kThreads>
__global__ void __launch_bounds__(kThreads) prepare_rows_kernel(const PrepareArgs args) {
  const std::int64_t token = grid_thread<kThreads>();
  const PreparedRow row = args.rows[blockIdx.y];
  const std::int64_t stride = SamplingArgs::prepared_stride(args.vocabulary);
  if (token >= stride) return;
  float logit = -INFINITY;  // past the end too
  if (token < args.vocabulary) {
    logit = args.logits[row.row * args.logits_stride + token];
    const bool is_allowed = row.first_mask_word < 0 ||
                            (args.mask_words[row.first_mask_word + token / 64] >> (token % 64) & 1) != 0;
    if (!is_allowed && logit < INFINITY) logit = -INFINITY;
  }
  args.prepared[std::int64_t{blockIdx.y} * stride + token] = logit;
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads) edit_rows_kernel(const PrepareArgs args) {
  const std::int64_t index = grid_thread<kThreads>();
  if (index >= args.num_edits) return;
  const PreparedEdit& edit = args.edits[index];
  const LogitEdit& change = edit.edit;
  if (change.token < 0 || change.token >= args.vocabulary) return;
  float& logit = args.prepared[edit.prepared * SamplingArgs::prepared_stride(args.vocabulary) + change.token];
  float x = __fadd_rn(logit, change.bias);
  x = x > 0 ? __fdiv_rn(x, change.repetition_penalty) : __fmul_rn(x, change.repetition_penalty);
  x = __fsub_rn(x, change.subtract);
  logit = change.is_forbidden ? -INFINITY : x;
}

/// Fills args.prepared.
inline void prepare_rows(const PrepareArgs& args, dev::stream_t stream) {
  if (args.num_rows == 0) return;
  dim3 grid = grid_for<kSamplingThreads>(SamplingArgs::prepared_stride(args.vocabulary));
  grid.y = static_cast<unsigned>(args.num_rows);
  dev::launch(prepare_rows_kernel<kSamplingThreads>, grid, dim3(kSamplingThreads), 0, stream, args);
  if (args.num_edits > 0)
    dev::launch(edit_rows_kernel<kSamplingThreads>, grid_for<kSamplingThreads>(args.num_edits),
                dim3(kSamplingThreads), 0, stream, args);
}

/// Choice `choice` asks for the `count` likeliest of its row; their keys go to keys[first_key ...].
struct LogprobRequest {
  std::int32_t choice = 0;
  std::int32_t count = 0;
  std::int32_t first_key = 0;
};
struct LogprobResult {
  double log_sum_exp = 0;
  float logit = 0;         // the chosen token's
  std::int32_t count = 0;  // of keys that there are
};
struct LogprobArgs {
  const float* logits = nullptr;
  std::int64_t logits_stride = 0;
  int vocabulary = 0;
  const RowSampling* choices = nullptr;
  std::int32_t* tokens = nullptr;  // chosen
  const LogprobRequest* requests = nullptr;
  int num_requests = 0;
  LogprobResult* results = nullptr;  // [num_requests]; untouched where no token was chosen
  std::uint64_t* keys = nullptr;
};

template <int kThreads>
__global__ void __launch_bounds__(kThreads, 1) logprobs_kernel(const LogprobArgs args) {
  const LogprobRequest request = args.requests[blockIdx.x];
  const int chosen = args.tokens[request.choice];
  if (chosen < 0) return;
  DEV_SHARED(DigitHistogram, histogram);
  DEV_SHARED(KeySearch, search);
  DEV_SHARED(std::uint64_t, warp_best, [kThreads / kWarpSize]);
  DEV_SHARED(double, thread_sums, [kThreads]);
  DEV_SHARED(int, num_listed);
  const float* const logits = args.logits + args.choices[request.choice].row * args.logits_stride;
  std::uint64_t best = 0;
  for (int token = thread_index(); token < args.vocabulary; token += kThreads) {
    const std::uint64_t key = choice_key(logits[token], static_cast<std::uint32_t>(token));
    best = key > best ? key : best;
  }
  best = warp_max(best);
  if (lane_index() == 0) warp_best[warp_index()] = best;
  if (thread_index() == 0) num_listed = 0;
  __syncthreads();
  best = warp_max(warp_best[lane_index() % (kThreads / kWarpSize)]);
  if (best == kBrokenKey) {  // what a change to the row has hidden
    if (thread_index() == 0) args.tokens[request.choice] = -1;
    return;
  }
  const auto largest = static_cast<double>(logits[chosen_token(best)]);
  double sum = 0;
  for (int token = thread_index(); token < args.vocabulary; token += kThreads)
    sum += exp(static_cast<double>(logits[token]) - largest);
  thread_sums[thread_index()] = sum;
  __syncthreads();
  for (int distance = kThreads / 2; distance > 0; distance /= 2) {
    if (thread_index() < distance) thread_sums[thread_index()] += thread_sums[thread_index() + distance];
    __syncthreads();
  }
  if (request.count > 0) {
    const std::uint64_t least = key_that_reaches<1>(
        logits, args.vocabulary, 0, static_cast<std::uint64_t>(request.count), -1, [](float) { return 1ull; },
        histogram, search);
    for (int token = thread_index(); token < args.vocabulary; token += kThreads) {
      const std::uint64_t key = choice_key(logits[token], static_cast<std::uint32_t>(token));
      if (key == 0 || key < least) continue;
      const int place = atomicAdd(&num_listed, 1);
      if (place < request.count) args.keys[request.first_key + place] = key;
    }
  }
  __syncthreads();
  if (thread_index() == 0)
    args.results[blockIdx.x] = {largest + log(thread_sums[0]), logits[chosen],
                                min(num_listed, request.count)};
}

inline void find_logprobs(const LogprobArgs& args, dev::stream_t stream) {
  if (args.num_requests == 0) return;
  dev::launch(logprobs_kernel<kFilterThreads>, dim3(static_cast<unsigned>(args.num_requests)),
              dim3(kFilterThreads), 0, stream, args);
}

}  // namespace redline::cuda
