// CUDA's own spellings for a C++ compiler: built-in variables, shuffles, votes, barriers, atomics,
// intrinsics.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <vector_functions.h>
#include <vector_types.h>
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/emulation/emulation.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __grid_constant__
#undef __launch_bounds__
#undef __forceinline__
#undef __noinline__
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
// __shared__ stays undefined: DEV_SHARED lets the emulation own the storage.

inline thread_local constinit uint3 threadIdx{};
inline thread_local constinit uint3 blockIdx{};
inline thread_local constinit uint3 blockDim{};
inline thread_local constinit uint3 gridDim{};
inline constexpr int warpSize = 32;

#define EMU_HERE \
  ::redline::cuda::emulation::Location emu_here = ::redline::cuda::emulation::Location::current()

namespace redline::cuda::emulation {

template <class T>
inline T shuffle(Shuffle mode, unsigned mask, T value, int operand, int width, const char* operation,
                 const Location& where) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  ShuffleArgument argument{0, 0, operand, width, mode};
  std::memcpy(&argument.value, &value, sizeof(T));
  warp_collective(mask, operation, compute_shuffle, &argument, where);
  std::memcpy(static_cast<void*>(&value), &argument.result, sizeof(T));
  return value;
}

template <class T>
inline T warp_reduce(WarpReduction reduction, unsigned mask, T value, const char* operation,
                     const Location& where) {
  static_assert(sizeof(T) == 4 && std::is_integral_v<T>);
  WarpReduceArgument argument{static_cast<unsigned>(value), 0, reduction, std::is_signed_v<T>};
  warp_collective(mask, operation, compute_warp_reduce, &argument, where);
  return static_cast<T>(argument.result);
}

/// One atomic read-modify-write, relaxed to the race check as CUDA's are.
template <class T, class F>
inline T atomic_update(T* address, F next) {
  note_access(address, sizeof(T), true, true, __builtin_return_address(0));
  std::atomic_ref<T> cell(*address);
  T old = cell.load(std::memory_order_relaxed);
  while (!cell.compare_exchange_weak(old, next(old), std::memory_order_acq_rel)) {
  }
  return old;
}

template <class To, class From>
inline To bits(From from) {
  return std::bit_cast<To>(from);
}

}  // namespace redline::cuda::emulation

// Warp ------------------------------------------------------------------------------------------------------

template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, EMU_HERE) {
  namespace e = redline::cuda::emulation;
  return e::shuffle(e::Shuffle::kIndex, mask, value, lane, width, "__shfl_sync", emu_here);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_HERE) {
  namespace e = redline::cuda::emulation;
  return e::shuffle(e::Shuffle::kUp, mask, value, static_cast<int>(delta), width, "__shfl_up_sync", emu_here);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_HERE) {
  namespace e = redline::cuda::emulation;
  return e::shuffle(e::Shuffle::kDown, mask, value, static_cast<int>(delta), width, "__shfl_down_sync",
                    emu_here);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, EMU_HERE) {
  namespace e = redline::cuda::emulation;
  return e::shuffle(e::Shuffle::kXor, mask, value, lane_mask, width, "__shfl_xor_sync", emu_here);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_HERE) {
  namespace e = redline::cuda::emulation;
  e::VoteArgument argument{predicate != 0, 0};
  e::warp_collective(mask, "__ballot_sync", e::compute_ballot, &argument, emu_here);
  return argument.result;
}
inline int __any_sync(unsigned mask, int predicate, EMU_HERE) {
  return __ballot_sync(mask, predicate, emu_here) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMU_HERE) {
  return __ballot_sync(mask, predicate, emu_here) == mask;
}
#define EMU_WARP_REDUCE(NAME, KIND, T)                                           \
  inline T NAME(unsigned mask, T value, EMU_HERE) {                              \
    namespace e = redline::cuda::emulation;                                      \
    return e::warp_reduce(e::WarpReduction::KIND, mask, value, #NAME, emu_here); \
  }
EMU_WARP_REDUCE(__reduce_add_sync, kAdd, unsigned)
EMU_WARP_REDUCE(__reduce_add_sync, kAdd, int)
EMU_WARP_REDUCE(__reduce_min_sync, kMin, unsigned)
EMU_WARP_REDUCE(__reduce_min_sync, kMin, int)
EMU_WARP_REDUCE(__reduce_max_sync, kMax, unsigned)
EMU_WARP_REDUCE(__reduce_max_sync, kMax, int)
EMU_WARP_REDUCE(__reduce_and_sync, kAnd, unsigned)
EMU_WARP_REDUCE(__reduce_or_sync, kOr, unsigned)
EMU_WARP_REDUCE(__reduce_xor_sync, kXor, unsigned)
#undef EMU_WARP_REDUCE
inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_HERE) {
  redline::cuda::emulation::warp_collective(mask, "__syncwarp", nullptr, nullptr, emu_here, true);
}

// Block -----------------------------------------------------------------------------------------------------

inline void __syncthreads(EMU_HERE) { redline::cuda::emulation::block_barrier(0, 0, true, emu_here); }
inline int __syncthreads_count(int predicate, EMU_HERE) {
  namespace e = redline::cuda::emulation;
  return e::block_barrier_reduce(e::Reduction::kCount, predicate != 0, emu_here);
}
inline int __syncthreads_or(int predicate, EMU_HERE) {
  namespace e = redline::cuda::emulation;
  return e::block_barrier_reduce(e::Reduction::kOr, predicate != 0, emu_here);
}
inline int __syncthreads_and(int predicate, EMU_HERE) {
  namespace e = redline::cuda::emulation;
  return e::block_barrier_reduce(e::Reduction::kAnd, predicate != 0, emu_here);
}
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() {}

// Atomics ---------------------------------------------------------------------------------------------------

template <class T>
inline T atomicAdd(T* address, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address, [=](T old) { return static_cast<T>(old + value); });
}
template <class T>
inline T atomicSub(T* address, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address, [=](T old) { return static_cast<T>(old - value); });
}
template <class T>
inline T atomicMax(T* address, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address, [=](T old) { return std::max(old, value); });
}
template <class T>
inline T atomicMin(T* address, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address, [=](T old) { return std::min(old, value); });
}
template <class T>
inline T atomicExch(T* address, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address, [=](T) { return value; });
}
template <class T>
inline T atomicOr(T* address, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address, [=](T old) { return static_cast<T>(old | value); });
}
template <class T>
inline T atomicAnd(T* address, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address, [=](T old) { return static_cast<T>(old & value); });
}
template <class T>
inline T atomicXor(T* address, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address, [=](T old) { return static_cast<T>(old ^ value); });
}
template <class T>
inline T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return redline::cuda::emulation::atomic_update(address,
                                                 [=](T old) { return old == expected ? value : old; });
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return redline::cuda::emulation::atomic_update(address,
                                                 [=](unsigned old) { return old >= limit ? 0u : old + 1; });
}

// Intrinsics ------------------------------------------------------------------------------------------------

using std::max;
using std::min;
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __saturatef(float x) { return x < 0 ? 0.0f : x > 1 ? 1.0f : x; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return redline::cuda::emulation::bits<unsigned>(x); }
inline int __float_as_int(float x) { return redline::cuda::emulation::bits<int>(x); }
inline float __uint_as_float(unsigned x) { return redline::cuda::emulation::bits<float>(x); }
inline float __int_as_float(int x) { return redline::cuda::emulation::bits<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= ((x >> i) & 1u) << (31 - i);
  return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selectors) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned selector = (selectors >> (4 * i)) & 7;  // unlike prmt's, the fourth bit is not used
    const unsigned byte = static_cast<unsigned>(bytes >> (8 * selector)) & 0xff;
    result |= byte << (8 * i);
  }
  return result;
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) {
    c += static_cast<std::int8_t>(a >> (8 * i)) * static_cast<std::int8_t>(b >> (8 * i));
  }
  return c;
}
template <class T>
inline T __ldg(const T* address) {
  return *address;
}
template <class T>
inline T __ldcs(const T* address) {
  return *address;
}
template <class T>
inline T __ldcg(const T* address) {
  return *address;
}
template <class T>
inline void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
inline void __stcg(T* address, std::type_identity_t<T> value) {
  *address = value;
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  const float2 x = __bfloat1622float2(a), y = __bfloat1622float2(b), z = __bfloat1622float2(c);
  return __floats2bfloat162_rn(std::fma(x.x, y.x, z.x), std::fma(x.y, y.y, z.y));
}
/// A product of halves is exact in fp32, its sum is not: round once, from double.
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  const float2 x = __half22float2(a), y = __half22float2(b), z = __half22float2(c);
  return __halves2half2(__double2half(static_cast<double>(x.x) * y.x + z.x),
                        __double2half(static_cast<double>(x.y) * y.y + z.y));
}
