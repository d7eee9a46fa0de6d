// Weights on their way to the device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/weight_layout.h"
#include "kernels/ops.h"

namespace redline::cuda {

/// What matrices of `dtype` are stored as on the device: the quantised types that kernels read as they are,
/// all others as `activation_dtype`.
constexpr DType stored_dtype(DType dtype, DType activation_dtype) {
  return is_read_packed(dtype) ? dtype : activation_dtype;
}

/// A packed matrix as kernels take it.
inline WeightArrays weight_arrays(const WeightView& weight) {
  return weight_arrays_at(weight.data, weight.dtype, weight.rows, weight.cols);
}

/// Converts rows on the host's threads into two pinned buffers by turns, so that conversion and copy overlap.
class WeightUpload {
 public:
  WeightUpload(ThreadPool& pool, const Stream& stream) : pool_(pool), stream_(stream) {}

  /// Stores `source` as `weight`, of type stored_dtype(source.dtype, ...), describes. Returns when it lies
  /// there.
  void store(const MatrixSource& source, const WeightView& weight);

  /// What was copied so far and how long the host waited for and prepared it.
  std::int64_t num_bytes() const { return num_bytes_; }
  std::int64_t elapsed_ns() const { return elapsed_ns_; }

 private:
  struct Turn {
    Buffer pinned;
    Event copied;
  };
  void store_rows(const MatrixSource& source, const WeightView& to, std::int64_t first, std::int64_t count,
                  Turn& turn);

  ThreadPool& pool_;
  const Stream& stream_;
  std::array<Turn, 2> turns_;
  std::int64_t num_bytes_ = 0;
  std::int64_t elapsed_ns_ = 0;
};

}  // namespace redline::cuda
