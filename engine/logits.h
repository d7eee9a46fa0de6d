// The logits of a step: written where the backend computes, read on the host.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace redline {

/// Memory for a step's logits [R, V], f32, kept from step to step. Not thread-safe.
class Logits {
 public:
  explicit Logits(std::int64_t vocab_size) : vocab_size_(vocab_size) {}

  /// Takes the memory for `num_rows` at once, so that later steps do not.
  void reserve(Ops& ops, std::int64_t num_rows) { rows(ops, num_rows); }
  /// Where Model::forward writes `num_rows` rows; valid until the next call that needs more.
  TensorView rows(Ops& ops, std::int64_t num_rows) {
    num_rows_ = num_rows;
    const auto needed = static_cast<std::size_t>(ops.padded_rows(num_rows) * vocab_size_) * sizeof(float);
    if (buffer_.size() < needed) buffer_ = ops.allocate(needed);
    return f32_view(buffer_.data(), num_rows, vocab_size_);
  }
  /// The same rows in the host's memory, once the step has ended. The caller may change them.
  TensorView on_host(Ops& ops) {
    if (ops.uses_host_memory()) return f32_view(buffer_.data(), num_rows_, vocab_size_);
    const auto needed = static_cast<std::size_t>(num_rows_ * vocab_size_) * sizeof(float);
    if (host_.size() < needed) host_ = Buffer(needed);
    if (needed > 0) ops.download(host_.data(), buffer_.data(), needed);
    return f32_view(host_.data(), num_rows_, vocab_size_);
  }

 private:
  std::int64_t vocab_size_;
  std::int64_t num_rows_ = 0;
  Buffer buffer_;  // the backend's
  Buffer host_;    // a device's logits, downloaded
};

}  // namespace redline
