// Loops that the compiler vectorises for whatever it builds for.
#include "kernels/cpu/ceiling_loops.h"

namespace redline::cpu {
namespace {

constexpr int kLanes = 32;

// Hides a value from the optimiser.
template <class T>
void pin(T* values) {
  __asm__ volatile("" : : "r"(values) : "memory");
}

std::int64_t fp32_loop(std::int64_t iterations) {
  float factor = 1.0000001f, addend = 1e-9f;
  pin(&factor);
  pin(&addend);
  float sums[kLanes] = {};
  for (std::int64_t i = 0; i < iterations; ++i)
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] = sums[lane] * factor + addend;
  pin(sums);
  return static_cast<std::int64_t>(sums[0]);
}

template <class T>
std::int64_t integer_loop(std::int64_t iterations) {
  constexpr int kChain = 64;
  T x[kLanes][kChain], w[kLanes][kChain];
  for (int lane = 0; lane < kLanes; ++lane)
    for (int k = 0; k < kChain; ++k) {
      x[lane][k] = static_cast<T>(lane + k);
      w[lane][k] = static_cast<T>(lane - k);
    }
  std::int32_t total = 0;
  for (std::int64_t i = 0; i < iterations; ++i) {
    pin(x);
    std::int32_t sum = 0;
    for (int k = 0; k < kChain; ++k) sum += x[i % kLanes][k] * w[i % kLanes][k];
    total ^= sum;
  }
  return total;
}

}  // namespace

constinit const ComputeLoop kFp32LoopPortable = {ComputeType::kF32, 2 * kLanes, fp32_loop};
constinit const ComputeLoop kInt16LoopPortable = {ComputeType::kInt16, 2 * 64, integer_loop<std::int16_t>};
constinit const ComputeLoop kInt8LoopPortable = {ComputeType::kInt8, 2 * 64, integer_loop<std::int8_t>};

std::int64_t read_loop_portable(const std::byte* data, std::size_t bytes) {
  const auto* words = reinterpret_cast<const std::uint64_t*>(data);
  std::uint64_t sums[8] = {};
  for (std::size_t i = 0; i < bytes / sizeof(std::uint64_t); i += 8)
    for (std::size_t k = 0; k < 8; ++k) sums[k] ^= words[i + k];
  std::uint64_t all = 0;
  for (const std::uint64_t sum : sums) all ^= sum;
  return static_cast<std::int64_t>(all);
}

}  // namespace redline::cpu
