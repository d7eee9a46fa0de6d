// A step's batch in device memory.
#pragma once

#include <span>

#include "kernels/batch.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/handles.h"
#include "kernels/tensor.h"

namespace redline::cuda {

/// Copies each step's arrays to the device in one piece, through pinned memory.
class StepArrays {
 public:
  /// The copy runs on `stream`; the previous step's must have ended. To a batch of one new token and one
  /// logit row a sequence, `num_padding_rows` such sequences are added that live in block 0, which is
  /// nobody's. All arrays lie where the last batch of as many rows had them, unless memory had to grow: then
  /// true is returned. Throws OutOfDeviceMemory.
  bool upload(const BatchView& batch, std::int64_t num_padding_rows, const Stream& stream);
  /// Copies another array behind them and returns where it lies; valid until the next upload.
  const BlockCopy* upload(std::span<const BlockCopy> copies, const Stream& stream);
  const DeviceBatch& batch() const { return device_batch_; }

 private:
  bool reserve(std::size_t bytes);

  Buffer host_, device_;
  Buffer copies_;
  DeviceBatch device_batch_;
};

}  // namespace redline::cuda
