// Weights from a checkpoint's files.
#include <algorithm>
#include <deque>
#include <thread>
#include <utility>

#include "engine/coded_matrix.h"
#include "engine/model_file_error.h"
#include "engine/weight_source.h"
#include "kernels/convert.h"

namespace redline {
namespace {

// Calls work(begin, end) for parts of [0, count), one a thread.
template <class Work>
void share_out(std::int64_t count, int num_threads, const Work& work) {
  std::vector<std::jthread> threads;
  for (int t = 1; t < num_threads; ++t)
    threads.emplace_back(work, count * t / num_threads, count * (t + 1) / num_threads);
  work(0, count / num_threads);
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
    const FileTensor& tensor = checkpoint_.tensor(role, layer);
    return options_.dtype ? type_for_rows(*options_.dtype, tensor.shape.back()) : tensor.dtype;
  }

  MatrixSource matrix(TensorRole role, std::int64_t layer) override {
    const FileTensor& tensor = checkpoint_.tensor(role, layer);
    const DType target = dtype(role, layer);
    if (!tensor.code && target == tensor.dtype && is_aligned(tensor)) return checkpoint_.matrix(role, layer);
    const std::int64_t rows = tensor.shape[0], cols = tensor.shape[1], stride = row_bytes(target, cols);
    std::byte* copy =
        copies_.emplace_back(role, Buffer(static_cast<std::size_t>(rows * stride))).second.data();
    if (tensor.code && target == tensor.dtype)
      share_out(rows, [&](std::int64_t begin, std::int64_t end) {
        tensor.code->encode(tensor.first_row + begin, end - begin, copy + begin * stride);
      });
    else
      convert(role, layer, target, copy);
    return {target, rows, cols, [copy, stride](std::int64_t row) { return copy + row * stride; }};
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
  /// Calls work(begin, end) for parts of [0, count), one a thread.
  template <class Work>
  void share_out(std::int64_t count, const Work& work) const {
    std::vector<std::jthread> threads;
    for (int t = 1; t < num_threads_; ++t)
      threads.emplace_back(work, count * t / num_threads_, count * (t + 1) / num_threads_);
    work(0, count / num_threads_);
  }

  // out's rows = the tensor's rows in type `target`, through f32.
  void convert(TensorRole role, std::int64_t layer, DType target, std::byte* out) const {
    const FileTensor& tensor = checkpoint_.tensor(role, layer);
    const MatrixSource source = tensor.code ? MatrixSource{} : checkpoint_.matrix(role, layer);
    const std::int64_t cols = tensor.shape[1], stride = row_bytes(target, cols);
    share_out(tensor.shape[0], [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> values(static_cast<std::size_t>(cols));
      for (std::int64_t row = begin; row < end; ++row) {
        if (tensor.code)
          tensor.code->values(tensor.first_row + row, values.data());
        else
          dequantize_row(source.dtype, source.row(row), cols, values.data());
        quantize_row(target, values.data(), cols, out + row * stride);
      }
    });
  }

  const Checkpoint& checkpoint_;
  const LoadOptions options_;
  const int num_threads_;
  std::deque<std::pair<TensorRole, Buffer>>
      copies_;  // decoded or converted matrices on their way to be packed
  std::int64_t done_bytes_ = 0, total_bytes_ = 0;
};

}  // namespace

std::unique_ptr<WeightSource> make_file_weights(const Checkpoint& checkpoint, const LoadOptions& options,
                                                int num_threads) {
  return std::make_unique<FileWeights>(checkpoint, options, num_threads);
}

}  // namespace redline
