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

struct CeilingLoops {
  const char* isa = "";
  ComputeLoop compute[kMaxComputeLoops];
  int num_compute = 0;
  /// Reads every byte of [data, data + bytes); both are multiples of 512.
  std::int64_t (*read)(const std::byte* data, std::size_t bytes) = nullptr;
};

const CeilingLoops& portable_ceilings();
const CeilingLoops& avx2_ceilings();
const CeilingLoops& avx512_ceilings();

}  // namespace redline::cpu
