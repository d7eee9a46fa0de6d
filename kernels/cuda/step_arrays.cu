#include "kernels/cuda/step_arrays.h"

#include <algorithm>
#include <numeric>

namespace redline::cuda {
namespace {

constexpr std::size_t kAlignment = 16;
constexpr std::size_t kSmallest = std::size_t{1} << 18;

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

bool StepArrays::upload(const BatchView& batch, std::int64_t num_padding_rows, const Stream& stream) {
  const auto padding = static_cast<std::size_t>(num_padding_rows);
  const std::size_t tokens = batch.token_ids.size() + padding;
  const std::size_t tables = batch.block_tables.size() + (padding > 0 ? 1 : 0);
  const std::size_t num_ints = 3 * tokens + batch.logit_rows.size() + padding + tables;
  const bool grown =
      reserve(aligned((batch.sequences.size() + padding) * sizeof(SequenceWork)) +
              aligned(tokens * sizeof(std::int64_t)) + num_ints * sizeof(std::int32_t) + 5 * kAlignment);
  std::size_t used = 0;
  // Copies `values` and leaves room for `more`; returns where those begin on the host.
  const auto copy = [&]<class T>(const T*& array, std::span<const T> values, std::size_t more) {
    T* const host = reinterpret_cast<T*>(host_.data() + used);
    array = reinterpret_cast<const T*>(device_.data() + used);
    used += aligned((values.size() + more) * sizeof(T));
    return std::copy(values.begin(), values.end(), host);
  };
  DeviceBatch& b = device_batch_;
  b.num_sequences = static_cast<int>(batch.sequences.size() + padding);
  b.num_tokens = static_cast<int>(tokens);
  b.num_logit_rows = static_cast<int>(batch.logit_rows.size() + padding);

  SequenceWork* work = copy(b.sequences, batch.sequences, padding);
  for (std::size_t i = tokens - padding; i < tokens; ++i)
    *work++ = {.query_start = static_cast<std::int32_t>(i),
               .num_new = 1,
               .num_logit_rows = 1,
               .table_start = static_cast<std::int32_t>(batch.block_tables.size()),
               .phase = Phase::kDecode};
  std::fill_n(copy(b.slots, batch.slots, padding), padding, 0);
  std::fill_n(copy(b.token_ids, batch.token_ids, padding), padding, 0);
  std::fill_n(copy(b.positions, batch.positions, padding), padding, 0);
  std::int32_t* row_sequence = copy(b.row_sequence, std::span<const std::int32_t>(), tokens);
  for (std::size_t s = 0; s < batch.sequences.size(); ++s)
    row_sequence = std::fill_n(row_sequence, batch.sequences[s].num_new, static_cast<std::int32_t>(s));
  std::iota(row_sequence, row_sequence + padding, static_cast<std::int32_t>(batch.sequences.size()));
  std::int32_t* logit_row = copy(b.logit_rows, batch.logit_rows, padding);
  std::iota(logit_row, logit_row + padding, static_cast<std::int32_t>(tokens - padding));
  std::fill_n(copy(b.block_tables, batch.block_tables, padding > 0 ? 1 : 0), padding > 0 ? 1 : 0, 0);
  if (used > 0) dev::copy_to_device_async(device_.data(), host_.data(), used, stream.get());
  return grown;
}

const BlockCopy* StepArrays::upload(std::span<const BlockCopy> copies, const Stream& stream) {
  if (copies_.size() < copies.size_bytes()) copies_ = allocate_device(2 * copies.size_bytes(), "copies");
  // Pageable memory: the copy has left `copies` when this returns.
  dev::copy_to_device_async(copies_.data(), copies.data(), copies.size_bytes(), stream.get());
  return reinterpret_cast<const BlockCopy*>(copies_.data());
}

bool StepArrays::reserve(std::size_t bytes) {
  if (host_.size() >= bytes) return false;
  bytes = std::max(bytes, kSmallest);
  host_ = allocate_pinned(2 * bytes);
  device_ = allocate_device(2 * bytes, "step");
  return true;
}

}  // namespace redline::cuda
