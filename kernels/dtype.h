// Storage types of weights, activations and caches, with GGUF's names and block layouts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

namespace redline {

enum class DType : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
  kF8E4M3,
};
inline constexpr int kNumDTypes = 17;

/// A type stores `block_elements` consecutive elements of a row in `block_bytes` bytes. How a block's bits
/// are read is written down once, in dequantize.cpp. Values: d and m are fp16; s and t are a small integer
/// scale and minimum of each 16 or 32 elements of a K type's 256. Q8_0, Q4_0, Q5_0: x = d q.  Q4_1, Q5_1: x =
/// d q + m.  IQ4_NL: x = d table[q].  MXFP4: x = 2^e table[q]. Q3_K, Q6_K: x = (d s) q.  Q2_K, Q4_K, Q5_K: x
/// = (d s) q - (m t).  IQ4_XS: x = (d s) table[q]. F8E4M3 is no type of GGUF's, but how we hold FP8 weights:
/// f32 scale, 128 codes: x = scale e4m3.
struct DTypeTraits {
  const char* name;  // "f32", "q4_0", ...
  int block_elements;
  int block_bytes;
};

inline constexpr DTypeTraits kDTypeTraits[kNumDTypes] = {
    {"f32", 1, 4},      {"f16", 1, 2},        {"bf16", 1, 2},     {"q8_0", 32, 34},   {"q4_0", 32, 18},
    {"q4_1", 32, 20},   {"q5_0", 32, 22},     {"q5_1", 32, 24},   {"q2_k", 256, 84},  {"q3_k", 256, 110},
    {"q4_k", 256, 144}, {"q5_k", 256, 176},   {"q6_k", 256, 210}, {"iq4_nl", 32, 18}, {"iq4_xs", 256, 136},
    {"mxfp4", 32, 17},  {"f8_e4m3", 128, 132}};

constexpr const DTypeTraits& traits(DType t) { return kDTypeTraits[static_cast<int>(t)]; }
constexpr const char* name(DType t) { return traits(t).name; }
constexpr bool is_quantized(DType t) { return traits(t).block_elements > 1; }

/// Bytes of one row of `elements` elements; requires elements to be a multiple of the block.
constexpr std::int64_t row_bytes(DType t, std::int64_t elements) {
  return elements / traits(t).block_elements * traits(t).block_bytes;
}

/// The type called `text` ("q8_0"; capitals count as small letters), or nothing.
constexpr std::optional<DType> dtype_from_name(std::string_view text) {
  const auto same_letter = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + ('a' - 'A') : a) == b; };
  for (int i = 0; i < kNumDTypes; ++i) {
    const std::string_view known = kDTypeTraits[i].name;
    if (std::equal(text.begin(), text.end(), known.begin(), known.end(), same_letter))
      return static_cast<DType>(i);
  }
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
