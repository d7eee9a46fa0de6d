// Storage types of weights, activations and caches, with GGUF's names and block layouts.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace redline {

enum class DType : std::uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1 };
inline constexpr int kNumDTypes = 6;

/// A type stores `block_elements` consecutive elements of a row in `block_bytes` bytes.
/// Q8_0: fp16 d, 32 x int8 q: x = d q.            Q4_0: fp16 d, 16 bytes: x = d (nibble - 8).
/// Q4_1: fp16 d, fp16 m, 16 bytes: x = d nibble + m. Nibbles: byte j holds element j low, element j + 16
/// high.
struct DTypeTraits {
  const char* name;  // "f32", "q4_0", ...
  int block_elements;
  int block_bytes;
};

inline constexpr DTypeTraits kDTypeTraits[kNumDTypes] = {
    {"f32", 1, 4}, {"f16", 1, 2}, {"bf16", 1, 2}, {"q8_0", 32, 34}, {"q4_0", 32, 18}, {"q4_1", 32, 20}};

constexpr const DTypeTraits& traits(DType t) { return kDTypeTraits[static_cast<int>(t)]; }
constexpr const char* name(DType t) { return traits(t).name; }
constexpr bool is_quantized(DType t) { return traits(t).block_elements > 1; }

/// Bytes of one row of `elements` elements; requires elements to be a multiple of the block.
constexpr std::int64_t row_bytes(DType t, std::int64_t elements) {
  return elements / traits(t).block_elements * traits(t).block_bytes;
}

/// The type called `text` ("q8_0"), or nothing.
constexpr std::optional<DType> dtype_from_name(std::string_view text) {
  for (int i = 0; i < kNumDTypes; ++i)
    if (text == kDTypeTraits[i].name) return static_cast<DType>(i);
  return std::nullopt;
}

/// The arithmetic that an operation runs in; each has its own peak. kInt8: products of bytes summed in int16
/// or wider by one instruction chain (vpdpbusd, maddubs); kInt16: bytes widened to int16 first (pmaddwd).
enum class ComputeType : std::uint8_t { kF32, kF16, kBF16, kInt16, kInt8, kF64 };
inline constexpr int kNumComputeTypes = 6;
inline constexpr const char* kComputeTypeNames[kNumComputeTypes] = {"fp32",  "fp16", "bf16",
                                                                    "int16", "int8", "fp64"};
constexpr const char* name(ComputeType t) { return kComputeTypeNames[static_cast<int>(t)]; }

}  // namespace redline
