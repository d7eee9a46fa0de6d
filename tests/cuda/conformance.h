// What the conformance tests share: inputs without order or rounding to depend on, and one hash for each
// primitive.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <vector>

#include "kernels/cuda/device.h"

namespace redline::cuda::conformance {

inline constexpr unsigned kFull = 0xffffffffu;

DEV_HOST_INLINE std::uint32_t mix(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}
/// An integer of -7 to 7 as bf16.
DEV_INLINE std::uint16_t small_bf16(std::uint32_t i) {
  const int value = static_cast<int>(mix(i) % 15) - 7;
  return static_cast<std::uint16_t>(__float_as_uint(static_cast<float>(value)) >> 16);
}
DEV_INLINE std::uint32_t small_bf16_pair(std::uint32_t i) {
  return static_cast<std::uint32_t>(small_bf16(2 * i)) | static_cast<std::uint32_t>(small_bf16(2 * i + 1))
                                                             << 16;
}
DEV_INLINE void fill_small(std::uint16_t* values, unsigned count) {
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) values[i] = small_bf16(i);
}
/// To the thread's place in `out`.
template <int kCount>
DEV_INLINE void store(std::uint32_t* out, const float (&values)[kCount]) {
  for (unsigned i = 0; i < kCount; ++i) out[threadIdx.x * kCount + i] = __float_as_uint(values[i]);
}
template <int kColumns>
DEV_INLINE void store(std::uint32_t* out, const float (&values)[kColumns][4]) {
  for (unsigned i = 0; i < kColumns * 4; ++i) {
    out[threadIdx.x * kColumns * 4 + i] = __float_as_uint(values[i / 4][i % 4]);
  }
}

/// The hash of what `run(out)` leaves in `words` words, zero before.
template <class F>
std::uint64_t hash_of(std::size_t words, F run) {
  dev::Buffer<std::uint32_t> out(std::vector<std::uint32_t>(words, 0), "out");
  run(out.get());
  dev::sync();
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a, by words
  for (const std::uint32_t word : out.download()) hash = (hash ^ mix(word)) * 1099511628211u;
  return hash;
}

/// Expects one of the hashes that the emulation gave; prints the one that it is.
inline void expect_hash(const char* golden, std::uint64_t hash) {
  char hex[20];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(hash));
  EXPECT_STREQ(hex, golden);
}

inline std::vector<uint4> numbered(unsigned count) {
  std::vector<uint4> values;
  for (unsigned i = 0; i < count; ++i) values.push_back({i * 7 + 1, i * 9, i, ~i});
  return values;
}

}  // namespace redline::cuda::conformance
