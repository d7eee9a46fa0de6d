// A tensor where it lies in a model file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/mapped_file.h"
#include "kernels/dtype.h"

namespace redline {

class CodedMatrix;

/// Part of a file: `data` is exactly the tensor's bytes, within `file`, which outlives it. Shape
/// [outermost, ..., innermost], row-major.
struct StoredTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
  const MappedFile* file = nullptr;

  std::uint64_t offset() const { return static_cast<std::uint64_t>(data.data() - file->bytes().data()); }
  std::int64_t elements() const {
    std::int64_t n = 1;
    for (const auto d : shape) n *= d;
    return n;
  }
};

/// A tensor of the model, the innermost dimension in `dtype`'s blocks. Where `code` is set, the file holds it
/// in another form (engine/coded_matrix.h): the tensor is rows [first_row, first_row + shape[0]) of that
/// matrix, and `data` the largest part of the file that they are made from.
struct FileTensor : StoredTensor {
  DType dtype = DType::kF32;
  const CodedMatrix* code = nullptr;
  std::int64_t first_row = 0;
};

/// "[49152, 576]".
std::string shape_text(std::span<const std::int64_t> shape);

/// `text` in quotes for a message: control and non-ASCII bytes as \xNN, cut after 80 bytes.
std::string printable(std::string_view text);

}  // namespace redline
