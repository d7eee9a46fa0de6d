// Where a model's weights come from: files, or a seed. weights.cpp packs either.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/tensor_role.h"
#include "engine/weights.h"
#include "kernels/ops.h"

namespace redline {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// The type that matrix `role` of `layer` is to be packed in.
  virtual DType dtype(TensorRole role, std::int64_t layer) const = 0;
  /// The matrix in that type. Valid until done(role, layer).
  virtual MatrixSource matrix(TensorRole role, std::int64_t layer) = 0;
  /// A norm's weights, or a bias.
  virtual std::vector<float> vector(TensorRole role, std::int64_t layer) = 0;
  /// The tensor was packed.
  virtual void done(TensorRole role, std::int64_t layer) = 0;
};

/// The checkpoint's tensors, re-quantised by `num_threads` threads where options ask for it.
std::unique_ptr<WeightSource> make_file_weights(const Checkpoint& checkpoint, const LoadOptions& options,
                                                int num_threads);
/// As random_weights says.
std::unique_ptr<WeightSource> make_random_weights(const ModelConfig& config, DType dtype, std::uint64_t seed);

}  // namespace redline
