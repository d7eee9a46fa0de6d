// The device header under emulation: what device_cuda.h offers, with the same names, for a C++ compiler.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "kernels/cuda/device_buffer.h"
#include "kernels/cuda/emulation/emulation.h"
#include "kernels/cuda/emulation/spellings.h"
#include "kernels/cuda/runtime.h"

/// DEV_SHARED(float, sums, [32]) declares `__shared__ float sums[32]`.
#define DEV_SHARED(T, name, ...) auto& name = ::redline::cuda::emulation::static_shared<T __VA_ARGS__>([] {})
#define DEV_INLINE inline
#define DEV_HOST_INLINE inline

namespace redline::cuda::dev {

using bf16 = __nv_bfloat16;
using bf162 = __nv_bfloat162;
inline constexpr bool kEmulated = true;

// What each of these does is said in device_cuda.h; `emu_here` is filled in by the caller's place.

template <class T>
inline T* dynamic_smem() {
  return reinterpret_cast<T*>(emulation::dynamic_shared());
}

/// Fails unless `address` is a multiple of 16.
inline void check_aligned_16(const void* address, const emulation::Location& where) {
  if (reinterpret_cast<std::uintptr_t>(address) & 15) emulation::fail_misaligned(where);
}
inline uint4 ld_nc_v4(const void* address, EMU_HERE) {
  check_aligned_16(address, emu_here);
  return *static_cast<const uint4*>(address);
}
inline uint4 ld_v4(const void* address, EMU_HERE) {
  check_aligned_16(address, emu_here);
  return *static_cast<const uint4*>(address);
}
inline void st_v4(void* address, uint4 value, EMU_HERE) {
  check_aligned_16(address, emu_here);
  *static_cast<uint4*>(address) = value;
}
inline int recomputed(int value) { return value; }
inline void schedule_fence() {}
inline float ex2(float x) { return std::exp2(x); }

void ldmatrix_x4(std::uint32_t (&result)[4], const void* row, EMU_HERE);
void ldmatrix_x4_trans(std::uint32_t (&result)[4], const void* row, EMU_HERE);
void ldmatrix_x2(std::uint32_t (&result)[2], const void* row, EMU_HERE);
void ldmatrix_x2_trans(std::uint32_t (&result)[2], const void* row, EMU_HERE);
void mma_bf16_16816(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, EMU_HERE);

void cp_async_16(void* shared, const void* global, EMU_HERE);
void cp_async_16_zfill(void* shared, const void* global, bool copy, EMU_HERE);
void cp_async_commit();
void cp_async_wait_n(int pending_groups);
template <int kPendingGroups>
inline void cp_async_wait() {
  cp_async_wait_n(kPendingGroups);
}
inline void bar_sync(int id, int num_threads, EMU_HERE) {
  emulation::block_barrier(id, num_threads, true, emu_here);
}
inline void bar_arrive(int id, int num_threads, EMU_HERE) {
  emulation::block_barrier(id, num_threads, false, emu_here);
}

// Hopper ----------------------------------------------------------------------------------------------------

void mbarrier_init(std::uint64_t* mbarrier, unsigned arrivals);
void mbarrier_arrive(std::uint64_t* mbarrier);
void mbarrier_arrive_expect_tx(std::uint64_t* mbarrier, unsigned bytes);
void mbarrier_wait_parity(std::uint64_t* mbarrier, unsigned parity, EMU_HERE);
inline void fence_mbarrier_init() {}
inline void fence_proxy_async() {}
void bulk_g2s(void* shared, const void* global, unsigned bytes, std::uint64_t* mbarrier, EMU_HERE);
inline void bulk_g2s_once(void* shared, const void* global, unsigned bytes, std::uint64_t* mbarrier,
                          EMU_HERE) {
  bulk_g2s(shared, global, bytes, mbarrier, emu_here);
}

enum class Swizzle : int { None = 0, B128 = 1, B64 = 2, B32 = 3 };
struct TensorMap2D {
  const unsigned char* base;
  std::uint64_t dim[2];
  std::uint64_t row_stride_bytes;
  std::uint32_t box[2];
  std::uint32_t element_bytes;
  Swizzle swizzle;
};
TensorMap2D make_tensor_map_2d(const void* base, std::uint64_t inner, std::uint64_t outer,
                               std::uint64_t row_stride_bytes, std::uint32_t box_inner,
                               std::uint32_t box_outer, std::uint32_t element_bytes, Swizzle swizzle);
void tma_load_2d(void* shared, const TensorMap2D* map, int inner, int outer, std::uint64_t* mbarrier,
                 EMU_HERE);

std::uint64_t wgmma_desc(const void* shared, unsigned leading_bytes, unsigned stride_bytes, Swizzle swizzle);
inline std::uint64_t wgmma_desc_advance(std::uint64_t descriptor, unsigned bytes) {
  return descriptor + (bytes >> 4);
}
void wgmma_fence();
void wgmma_commit();
void wgmma_wait_n(int pending_groups);
template <int kPendingGroups>
inline void wgmma_wait() {
  wgmma_wait_n(kPendingGroups);
}
void wgmma_bf16(float* d, int n, const std::uint32_t* a_registers, std::uint64_t a, std::uint64_t b,
                bool accumulate, bool b_transposed, emulation::Location where);
inline void wgmma_hold(float&) {}
template <bool kBTransposed = false, int kColumns>
inline void wgmma_ss(float (&d)[kColumns][4], std::uint64_t a, std::uint64_t b, bool accumulate, EMU_HERE) {
  wgmma_bf16(&d[0][0], kColumns * 8, nullptr, a, b, accumulate, kBTransposed, emu_here);
}
template <bool kBTransposed = true, int kColumns>
inline void wgmma_rs(float (&d)[kColumns][4], const std::uint32_t (&a)[4], std::uint64_t b, bool accumulate,
                     EMU_HERE) {
  wgmma_bf16(&d[0][0], kColumns * 8, a, 0, b, accumulate, kBTransposed, emu_here);
}
template <int kRegisters>
inline void shrink_registers() {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
}
template <int kRegisters>
inline void grow_registers() {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
}

// Between kernels and blocks
// ----------------------------------------------------------------------------------

inline void wait_for_prior_kernels() { emulation::wait_for_prior(); }
inline void allow_next_kernel() {}
inline std::uint32_t ld_acquire(const std::uint32_t* flag) {
  emulation::note_access(flag, sizeof *flag, false, true, __builtin_return_address(0));
  return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}
inline void st_release(std::uint32_t* flag, std::uint32_t value) {
  emulation::note_access(flag, sizeof *flag, true, true, __builtin_return_address(0));
  __atomic_store_n(flag, value, __ATOMIC_RELEASE);
}
inline void prefetch_l2(const void*) {}

// Launch ----------------------------------------------------------------------------------------------------

template <class... Parameters, class... Arguments>
inline void launch_with(bool dependent, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                        std::size_t dynamic_shared_bytes, stream_t stream, Arguments&&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  Call call{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  emulation::check_geometry(grid, block, dynamic_shared_bytes);
  const auto run = [=]() mutable {
    const auto thread = [](void* data) {
      const auto* const this_call = static_cast<const Call*>(data);
      std::apply(this_call->kernel, this_call->arguments);
    };
    emulation::launch(thread, &call, grid, block, dynamic_shared_bytes, dependent);
  };
  emulation::submit(stream, run, dependent);
}
template <class... Parameters, class... Arguments>
inline void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t dynamic_shared_bytes,
                   stream_t stream, Arguments&&... arguments) {
  launch_with(false, kernel, grid, block, dynamic_shared_bytes, stream,
              std::forward<Arguments>(arguments)...);
}
template <class... Parameters, class... Arguments>
inline void launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                             std::size_t dynamic_shared_bytes, stream_t stream, Arguments&&... arguments) {
  launch_with(true, kernel, grid, block, dynamic_shared_bytes, stream, std::forward<Arguments>(arguments)...);
}
}  // namespace redline::cuda::dev
