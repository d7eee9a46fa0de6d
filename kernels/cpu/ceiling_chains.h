// Independent sums that hide the latency of an instruction. Included only by ceilings_*.cpp of x86; internal
// linkage.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/ceiling_loops.h"

namespace redline::cpu {
namespace {

/// Runs step(sum) on kSums sums that start at `zero`, `iterations` times; returns them added up by `add`. An
/// empty asm keeps each in its register.
template <int kSums, class Vector, class Step, class Add>
[[gnu::always_inline]] inline Vector chains(std::int64_t iterations, Vector zero, Step&& step, Add&& add) {
  Vector sums[kSums];
#pragma GCC unroll 24
  for (Vector& sum : sums) sum = zero;
  for (std::int64_t i = 0; i < iterations; ++i)
#pragma GCC unroll 24
    for (Vector& sum : sums) {
      sum = step(sum);
      __asm__ volatile("" : "+v"(sum));
    }
  Vector total = zero;
#pragma GCC unroll 24
  for (const Vector& sum : sums) total = add(total, sum);
  return total;
}

}  // namespace
}  // namespace redline::cpu
