// What the elementwise kernels share: V consecutive elements of an array as f32, sums over a block, and who
// a thread is.
#pragma once

#include <type_traits>

#include "kernels/cuda/device.h"

namespace redline::cuda {

using bf16 = dev::bf16;
using f16 = __half;

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kWarpSize = 32;

DEV_INLINE int thread_index() { return static_cast<int>(threadIdx.x); }
DEV_INLINE int warp_index() { return static_cast<int>(threadIdx.x) / kWarpSize; }
DEV_INLINE int lane_index() { return static_cast<int>(threadIdx.x) % kWarpSize; }
/// The thread's index in the grid's x direction, where blocks have `kThreads` threads.
template <int kThreads>
DEV_INLINE std::int64_t grid_thread() {
  return std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
}

DEV_HOST_INLINE float to_f32(float x) { return x; }
DEV_HOST_INLINE float to_f32(bf16 x) { return __bfloat162float(x); }
DEV_HOST_INLINE float to_f32(f16 x) { return __half2float(x); }
/// Rounds to nearest, ties to even.
template <class T>
DEV_HOST_INLINE T from_f32(float x) {
  if constexpr (std::is_same_v<T, float>) return x;
  if constexpr (std::is_same_v<T, bf16>) return __float2bfloat16(x);
  if constexpr (std::is_same_v<T, f16>) return __float2half(x);
}

/// The same bits as another type.
template <class To, class From>
DEV_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(static_cast<void*>(&to), &from, sizeof to);
  return to;
}

/// The two bf16 of a word, low half first, as f32.
DEV_INLINE void unpack_bf16x2(std::uint32_t word, float& low, float& high) {
  low = __uint_as_float(word << 16);
  high = __uint_as_float(word & 0xffff0000u);
}
DEV_INLINE std::uint32_t pack_bf16x2(float low, float high) {
  return bits_as<std::uint32_t>(__floats2bfloat162_rn(low, high));
}
DEV_INLINE float2 unpack_f16x2(std::uint32_t word) { return __half22float2(bits_as<__half2>(word)); }

/// How often memory will be read again: kOnce goes past the L1 cache and must not be written while the kernel
/// runs.
enum class Reuse { kSome, kOnce };

template <Reuse kReuse>
DEV_INLINE uint4 load_16_bytes(const void* from) {
  if constexpr (kReuse == Reuse::kOnce) return dev::ld_nc_v4(from);
  return dev::ld_v4(from);
}

/// f = from[0 .. V) as f32. V is 8, with `from` aligned to 16 bytes, or 1.
template <int V, Reuse kReuse = Reuse::kSome, class T>
DEV_INLINE void load_elements(const T* from, float (&f)[V]) {
  static_assert(V == 1 || V == 8);
  if constexpr (V == 1) {
    f[0] = to_f32(*from);
  } else if constexpr (sizeof(T) == 4) {
    const uint4 low = load_16_bytes<kReuse>(from), high = load_16_bytes<kReuse>(from + 4);
    const std::uint32_t words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) f[i] = __uint_as_float(words[i]);
  } else {
    const uint4 all = load_16_bytes<kReuse>(from);
    const std::uint32_t words[4] = {all.x, all.y, all.z, all.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (std::is_same_v<T, bf16>) {
        unpack_bf16x2(words[i], f[2 * i], f[2 * i + 1]);
      } else {
        const float2 pair = unpack_f16x2(words[i]);
        f[2 * i] = pair.x;
        f[2 * i + 1] = pair.y;
      }
    }
  }
}

/// to[0 .. V) = f, rounded to T (bf16 or float). V is 8, with `to` aligned to 16 bytes, or 1.
template <int V, class T>
DEV_INLINE void store_elements(T* to, const float (&f)[V]) {
  static_assert(V == 1 || V == 8);
  if constexpr (V == 1) {
    *to = from_f32<T>(f[0]);
  } else if constexpr (std::is_same_v<T, float>) {
    dev::st_v4(to, make_uint4(__float_as_uint(f[0]), __float_as_uint(f[1]), __float_as_uint(f[2]),
                              __float_as_uint(f[3])));
    dev::st_v4(to + 4, make_uint4(__float_as_uint(f[4]), __float_as_uint(f[5]), __float_as_uint(f[6]),
                                  __float_as_uint(f[7])));
  } else {
    static_assert(std::is_same_v<T, bf16>);
    dev::st_v4(to, make_uint4(pack_bf16x2(f[0], f[1]), pack_bf16x2(f[2], f[3]), pack_bf16x2(f[4], f[5]),
                              pack_bf16x2(f[6], f[7])));
  }
}

/// Whether rows that start at `base` and lie `stride` elements apart can be read in vectors of 8.
template <class T>
inline bool vectors_fit(const T* base, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(base) % 16 == 0 && stride % 8 == 0;
}

/// The sum over the warp, in every lane.
DEV_INLINE float warp_sum(float value) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

/// The sum over a block of kThreads threads, in every thread, the same in each. Once per kernel: the shared
/// array is not guarded against a second use.
template <int kThreads>
DEV_INLINE float block_sum(float value) {
  constexpr int kWarps = kThreads / kWarpSize;
  DEV_SHARED(float, partial, [kWarps]);
  value = warp_sum(value);
  if (lane_index() == 0) partial[warp_index()] = value;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += partial[i];
  return sum;
}

/// Blocks of `kThreads` threads that cover `num_threads`.
template <int kThreads>
inline dim3 grid_for(std::int64_t num_threads) {
  return dim3(static_cast<unsigned>((num_threads + kThreads - 1) / kThreads));
}

}  // namespace redline::cuda
