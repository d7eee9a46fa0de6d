// The loops of one instruction set that measure_ceilings() times. Plain data only: translation units with
// their own -m flags include this.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace redline::cpu {

/// `run(n)` executes n * ops_per_iteration operations of one kind and returns something made of them all.
struct ComputeLoop {
  ComputeType type = ComputeType::kF32;
  std::int64_t ops_per_iteration = 0;
  std::int64_t (*run)(std::int64_t iterations) = nullptr;
};

inline constexpr int kMaxComputeLoops = 4;

/// Reads every byte of [data, data + bytes); both are multiples of 512.
using ReadLoop = std::int64_t (*)(const std::byte* data, std::size_t bytes);

/// One of each arithmetic that the set has.
struct CeilingLoops {
  const ComputeLoop* compute[kMaxComputeLoops] = {};  // null after the last
  ReadLoop read = nullptr;
};

extern const ComputeLoop kFp32LoopPortable, kInt16LoopPortable, kInt8LoopPortable;
extern const ComputeLoop kFp32LoopAvx2, kInt16LoopAvx2, kInt8LoopAvx2;
extern const ComputeLoop kInt16LoopAvx2Vnni, kInt8LoopAvx2Vnni;
extern const ComputeLoop kFp32LoopAvx512, kInt16LoopAvx512Vnni, kInt8LoopAvx512Vnni, kBF16LoopAvx512Bf16;
extern const ComputeLoop kBF16LoopAvx512Amx, kInt8LoopAvx512Amx;
std::int64_t read_loop_portable(const std::byte* data, std::size_t bytes);
std::int64_t read_loop_avx2(const std::byte* data, std::size_t bytes);
std::int64_t read_loop_avx512(const std::byte* data, std::size_t bytes);

}  // namespace redline::cpu
