// Memory: owning buffers and the non-owning views that operations take.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/check.h"
#include "kernels/dtype.h"

namespace redline {

/// Owns memory of the host or, where a backend made it (Ops::allocate), of its device.
class Buffer {
 public:
  using Release = void (*)(void* memory, std::size_t bytes);

  Buffer() = default;
  /// Host memory: zeroed, anonymous, aligned to 2 MiB (64 bytes below 1 MiB), advised to use huge pages.
  /// Pages are touched by whoever writes them first. Throws std::bad_alloc.
  explicit Buffer(std::size_t bytes);
  /// Takes `memory` of `bytes`, which `release` frees.
  Buffer(void* memory, std::size_t bytes, Release release)
      : data_(static_cast<std::byte*>(memory)),
        size_(bytes),
        memory_(memory),
        memory_bytes_(bytes),
        release_(release) {}
  ~Buffer() {
    if (memory_) release_(memory_, memory_bytes_);
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(memory_, other.memory_);
    std::swap(memory_bytes_, other.memory_bytes_);
    std::swap(release_, other.release_);
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  void* memory_ = nullptr;  // as it was obtained: data_ lies within
  std::size_t memory_bytes_ = 0;
  Release release_ = nullptr;
};

/// A row-major view of activations or unpacked values: [rows, cols], rows `row_stride` elements apart.
/// Non-owning; the elements are f32 unless `dtype` says otherwise.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;

  std::int64_t stored_bytes() const { return rows * row_bytes(dtype, cols); }
  float* f32(std::int64_t row = 0) const {
    REDLINE_CHECK(dtype == DType::kF32, "an f32 tensor is required");
    return static_cast<float*>(data) + row * row_stride;
  }
  /// Rows [first, first + count).
  TensorView slice_rows(std::int64_t first, std::int64_t count) const {
    REDLINE_CHECK(first >= 0 && count >= 0 && first + count <= rows, "row slice within the tensor");
    TensorView v = *this;
    v.data = static_cast<std::byte*>(data) + first * row_bytes(dtype, row_stride);
    v.rows = count;
    return v;
  }
  /// Columns [first, first + count) of an unquantised tensor.
  TensorView slice_cols(std::int64_t first, std::int64_t count) const {
    REDLINE_CHECK(first >= 0 && count >= 0 && first + count <= cols, "column slice within the tensor");
    TensorView v = *this;
    v.data = static_cast<std::byte*>(data) + row_bytes(dtype, first);
    v.cols = count;
    return v;
  }
};

/// Bytes of one element of an unquantised tensor.
inline std::int64_t element_bytes(const TensorView& view) { return row_bytes(view.dtype, 1); }

/// A contiguous f32 view of [rows, cols] at `data`.
inline TensorView f32_view(void* data, std::int64_t rows, std::int64_t cols) {
  return {data, DType::kF32, rows, cols, cols};
}

/// A weight matrix [rows N, cols K] as one backend packed it (Ops::pack). Non-owning. `panel_rows` rows are
/// interleaved; the last panel is padded. `type_bytes` is the matrix at its type's own size (what metering
/// calls compulsory), `stored_bytes` what the packed layout holds and a kernel really reads.
struct WeightView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  int panel_rows = 0;
  std::int64_t type_bytes = 0;
  std::int64_t stored_bytes = 0;
  bool gate_up = false;  // panels alternate gate, up: only Ops::linear_silu_mul takes such a matrix
};

/// How K and V of one block and head lie. kTransposed, for vector units: in bf16, K as
/// [head_dim / 2][block_size][2] and V as [block_size / 2][head_dim][2] (pairs meet in one 32-bit lane, of
/// tokens' K by dimension and of V by token); in f32, K as [head_dim][block_size] and V as
/// [block_size][head_dim]; in q8_0 the codes likewise, then f16 scales of 32 dimensions, K's as
/// [head_dim / 32][block_size] and V's as [block_size][head_dim / 32]. kRowMajor, for matrix units: both as
/// [block_size][head_dim], never q8_0.
enum class KvTiles : std::uint8_t { kTransposed, kRowMajor };

/// One layer of the paged cache. A block holds `block_size` tokens of all KV heads; a token's slot is
/// block * block_size + offset. Within a block each KV head h has one contiguous tile: K, then V.
struct KvLayerView {
  std::byte* data = nullptr;
  DType dtype = DType::kBF16;
  std::int64_t num_blocks = 0;
  int block_size = 16;
  int num_kv_heads = 0;
  int head_dim = 0;
  KvTiles tiles = KvTiles::kTransposed;

  /// Of a value, or of its code.
  std::int64_t element_bytes() const { return dtype == DType::kF32 ? 4 : dtype == DType::kQ8_0 ? 1 : 2; }
  std::int64_t tile_bytes() const { return row_bytes(dtype, head_dim) * block_size; }
  std::int64_t block_bytes() const { return 2 * tile_bytes() * num_kv_heads; }
  std::int64_t bytes_per_token() const { return 2 * row_bytes(dtype, head_dim) * num_kv_heads; }
  std::byte* k_tile(std::int64_t block, int head) const {
    return data + block * block_bytes() + 2 * head * tile_bytes();
  }
  std::byte* v_tile(std::int64_t block, int head) const { return k_tile(block, head) + tile_bytes(); }
  /// Index of element (token offset in block, dimension) within a K tile / a V tile, in elements.
  std::int64_t k_index(int offset, int dim) const {
    if (tiles == KvTiles::kRowMajor) return std::int64_t{offset} * head_dim + dim;
    return dtype != DType::kBF16 ? std::int64_t{dim} * block_size + offset
                                 : (std::int64_t{dim / 2} * block_size + offset) * 2 + dim % 2;
  }
  std::int64_t v_index(int offset, int dim) const {
    return dtype != DType::kBF16 || tiles == KvTiles::kRowMajor
               ? std::int64_t{offset} * head_dim + dim
               : (std::int64_t{offset / 2} * head_dim + dim) * 2 + offset % 2;
  }
  /// Of q8_0: bytes from the start of a K tile / a V tile to the scale of `group`, 32 dimensions.
  std::int64_t k_scale(int offset, int group) const {
    return std::int64_t{block_size} * head_dim + 2 * (std::int64_t{group} * block_size + offset);
  }
  std::int64_t v_scale(int offset, int group) const {
    return std::int64_t{block_size} * head_dim + 2 * (std::int64_t{offset} * (head_dim / 32) + group);
  }
};

}  // namespace redline
