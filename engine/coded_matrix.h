// Matrices that safetensors files hold in other forms than rows: FP8 codes with their scales apart, and the
// 4-bit integers of AWQ and GPTQ. Each becomes rows of a type that the engine computes with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/safetensors.h"
#include "kernels/dtype.h"

namespace redline {

/// Weights [N, K]. Immutable; valid as long as the files that it was made from.
class CodedMatrix {
 public:
  virtual ~CodedMatrix() = default;
  virtual std::int64_t rows() const = 0;
  virtual std::int64_t cols() const = 0;
  /// The type that rows become where no other is asked for.
  virtual DType dtype() const = 0;
  /// Writes rows [first, first + count) to `out`, one after the other, in dtype(). Threads may share it.
  virtual void encode(std::int64_t first, std::int64_t count, std::byte* out) const = 0;
  /// out[0 .. cols()) = the values of a row, each exact or one f32 product. Threads may share it.
  virtual void values(std::int64_t row, float* out) const = 0;
};

/// E4M3 codes [N, K], each times its scale. The scales are one number, one for each row ([N] or [N, 1]), or
/// one for each block of `block_rows` by `block_cols` ([N / block_rows, K / block_cols], rounded up).
struct Fp8Parts {
  const SafetensorsTensor* codes = nullptr;
  const SafetensorsTensor* scales = nullptr;    // F32, F16 or BF16
  std::int64_t block_rows = 0, block_cols = 0;  // 0: the scales are no blocks'
};

/// Exact as f8_e4m3 where scales change at multiples of 128 columns only; otherwise rounded to bf16. Throws
/// ModelFileError naming the tensor that has a wrong type or shape.
std::unique_ptr<CodedMatrix> make_fp8_matrix(const Fp8Parts& parts);

/// Integers q of 4 bits, x = scale (q - zero), where groups of k share a scale and a zero.
struct Int4Parts {
  enum class Packing : std::uint8_t {
    kGptq,  // qweight [K / 8, N]: eight k in an I32, lowest bits first; qzeros [G, N / 8] alike, of n
    kAwq,   // qweight [K, N / 8], qzeros [G, N / 8]: n = 8 i + 0, 2, 4, 6, 1, 3, 5, 7 in an I32
  };
  Packing packing = Packing::kGptq;
  int zero_offset = 0;                             // the zero is the stored one plus this, modulo 16
  const SafetensorsTensor* qweight = nullptr;      // I32
  const SafetensorsTensor* qzeros = nullptr;       // I32
  const SafetensorsTensor* scales = nullptr;       // F16 [G, N]
  const SafetensorsTensor* group_index = nullptr;  // I32 [K]: the group of each k; null: K / G in a row
};

/// Exact as q4_0 where every zero is 8; otherwise q4_1, whose offset -zero scale is rounded to f16 (by at
/// most 2^-11 of itself). Groups that are no runs of a multiple of 32 k become f16, rounded likewise. Throws
/// ModelFileError naming the tensor that has a wrong type or shape, or a group that does not exist.
std::unique_ptr<CodedMatrix> make_int4_matrix(const Int4Parts& parts);

}  // namespace redline
