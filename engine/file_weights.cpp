// Weights from a checkpoint's files.
#include <algorithm>
#include <thread>
#include <utility>

#include "engine/model_file_error.h"
#include "engine/weight_source.h"
#include "kernels/convert.h"

namespace redline {
namespace {

// target's rows = source's rows in target's type, through f32.
void convert_rows(const MatrixSource& source, DType dtype, std::byte* target, int num_threads) {
  const auto stride = row_bytes(dtype, source.cols);
  const auto convert = [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> row(static_cast<std::size_t>(source.cols));
    for (std::int64_t i = begin; i < end; ++i) {
      dequantize_row(source.dtype, source.row(i), source.cols, row.data());
      quantize_row(dtype, row.data(), source.cols, target + i * stride);
    }
  };
  std::vector<std::jthread> threads;
  for (int t = 1; t < num_threads; ++t)
    threads.emplace_back(convert, source.rows * t / num_threads, source.rows * (t + 1) / num_threads);
  convert(0, source.rows / num_threads);
}

// Whether the numbers lie on multiples of their size, which neither format promises.
bool is_aligned(const FileTensor& tensor) {
  return tensor.offset() % (tensor.dtype == DType::kF32 ? 4 : 2) == 0;
}

class FileWeights final : public WeightSource {
 public:
  FileWeights(const Checkpoint& checkpoint, const LoadOptions& options, int num_threads)
      : checkpoint_(checkpoint), options_(options), num_threads_(num_threads) {
    for_each_tensor(checkpoint.config(), [&](TensorRole role, std::int64_t layer) {
      const FileTensor& tensor = checkpoint.tensor(role, layer);
      total_bytes_ += static_cast<std::int64_t>(tensor.data.size());
      if (tensor.shape.size() != 2 || tensor.shape[1] % traits(dtype(role, layer)).block_elements == 0)
        return;
      throw ModelFileError({tensor.file->path(), "tensor " + printable(tensor.name), tensor.offset()},
                           "rows of a multiple of " +
                               std::to_string(traits(dtype(role, layer)).block_elements) + " elements for " +
                               name(dtype(role, layer)),
                           std::to_string(tensor.shape[1]));
    });
  }

  DType dtype(TensorRole role, std::int64_t layer) const override {
    return options_.dtype.value_or(checkpoint_.tensor(role, layer).dtype);
  }

  MatrixSource matrix(TensorRole role, std::int64_t layer) override {
    const MatrixSource source = checkpoint_.matrix(role, layer);
    const DType target = dtype(role, layer);
    if (source.dtype == target && is_aligned(checkpoint_.tensor(role, layer))) return source;
    const auto stride = row_bytes(target, source.cols);
    Buffer copy(static_cast<std::size_t>(source.rows * stride));
    convert_rows(source, target, copy.data(), num_threads_);
    const auto* data = copy.data();
    copies_.emplace_back(role, std::move(copy));
    return {target, source.rows, source.cols,
            [data, stride](std::int64_t row) { return data + row * stride; }};
  }

  std::vector<float> vector(TensorRole role, std::int64_t layer) override {
    const FileTensor& tensor = checkpoint_.tensor(role, layer);
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    dequantize_row(tensor.dtype, tensor.data.data(), tensor.elements(), values.data());
    return values;
  }

  void done(TensorRole role, std::int64_t layer) override {
    std::erase_if(copies_, [&](const auto& copy) { return copy.first == role; });
    const FileTensor& tensor = checkpoint_.tensor(role, layer);
    tensor.file->release(tensor.data);
    done_bytes_ += static_cast<std::int64_t>(tensor.data.size());
    if (options_.progress) options_.progress(done_bytes_, total_bytes_);
  }

 private:
  const Checkpoint& checkpoint_;
  const LoadOptions options_;
  const int num_threads_;
  std::vector<std::pair<TensorRole, Buffer>> copies_;  // converted matrices on their way to be packed
  std::int64_t done_bytes_ = 0, total_bytes_ = 0;
};

}  // namespace

std::unique_ptr<WeightSource> make_file_weights(const Checkpoint& checkpoint, const LoadOptions& options,
                                                int num_threads) {
  return std::make_unique<FileWeights>(checkpoint, options, num_threads);
}

}  // namespace redline
