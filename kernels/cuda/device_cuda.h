// The device header under nvcc: CUDA itself, and thin inline-PTX wrappers with the names of
// device_emulated.h.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

/// DEV_SHARED(float, sums, [32]) declares `__shared__ float sums[32]`.
#define DEV_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
#define DEV_INLINE __device__ __forceinline__
/// What tests call on the host too.
#define DEV_HOST_INLINE __host__ __device__ __forceinline__

// What only Hopper has traps elsewhere, so that one kernel source compiles for every architecture.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define DEV_SM90_ASM(...) asm volatile(__VA_ARGS__)
#else
#define DEV_SM90_ASM(...) __trap()
#endif
// Does nothing elsewhere.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define DEV_SM90_ASM_ONLY(...) asm volatile(__VA_ARGS__)
#else
#define DEV_SM90_ASM_ONLY(...)
#endif
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DEV_SM90A_ASM(...) asm volatile(__VA_ARGS__)
#else
#define DEV_SM90A_ASM(...) __trap()
#endif

namespace redline::cuda::dev {

using bf16 = __nv_bfloat16;
using bf162 = __nv_bfloat162;
inline constexpr bool kEmulated = false;

extern __shared__ __align__(1024) unsigned char dynamic_shared_bytes[];

/// The launch's dynamic shared memory, aligned to 1024 bytes (what a 128-byte swizzle needs).
template <class T>
DEV_INLINE T* dynamic_smem() {
  return reinterpret_cast<T*>(dynamic_shared_bytes);
}
DEV_INLINE std::uint32_t smem_u32(const void* address) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(address));
}

/// 16 aligned bytes of global memory that no one writes while the kernel runs, kept out of L1: for weights,
/// read once.
DEV_INLINE uint4 ld_nc_v4(const void* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}
/// 16 aligned bytes, any address space.
DEV_INLINE uint4 ld_v4(const void* address) { return *static_cast<const uint4*>(address); }
DEV_INLINE void st_v4(void* address, uint4 value) { *static_cast<uint4*>(address) = value; }
/// The value, of which the compiler then knows nothing: what follows from it is worked out where it is used,
/// not ahead of a loop that needs the registers.
DEV_INLINE int recomputed(int value) {
  asm volatile("" : "+r"(value));
  return value;
}
/// Keeps the compiler from loading ahead of this point, for a warp whose registers are full: it orders
/// nothing between threads. Converged warps alone.
DEV_INLINE void schedule_fence() { __syncwarp(); }
/// 2^x, to about 2 ulp; subnormal results are flushed to 0.
DEV_INLINE float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Ampere: tensor cores and asynchronous copies
// ----------------------------------------------------------------

/// Loads four 8x8 matrices of 16-bit elements from shared memory: lane 8 i + r passes the address of row r of
/// matrix i, 16-byte aligned; result[i] holds elements (lane / 4, 2 (lane % 4)) and the next of matrix i.
DEV_INLINE void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem_u32(row))
               : "memory");
}
/// The same, each matrix transposed.
DEV_INLINE void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem_u32(row))
               : "memory");
}
/// Two matrices, addresses from lanes 0 to 15.
DEV_INLINE void ldmatrix_x2(std::uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(smem_u32(row))
               : "memory");
}
DEV_INLINE void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(smem_u32(row))
               : "memory");
}
/// d += a b for a [16, 16] row-major, b [16, 8] column-major in bf16, d [16, 8] in fp32. With g = lane / 4
/// and q = 2 (lane % 4), each register holding two neighbours along k: a: (g, q), (g + 8, q), (g, q + 8), (g
/// + 8, q + 8); b: (q, g), (q + 8, g); d: (g, q), (g, q + 1), (g + 8, q), (g + 8, q + 1).
DEV_INLINE void mma_bf16_16816(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                               std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// Starts copying 16 aligned bytes from global to shared memory; the thread sees them after cp_async_wait,
/// others after a barrier that follows it.
DEV_INLINE void cp_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(smem_u32(shared)), "l"(global) : "memory");
}
/// The same where `copy`; else writes zeros and does not read `global`.
DEV_INLINE void cp_async_16_zfill(void* shared, const void* global, bool copy) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_u32(shared)), "l"(global),
               "r"(copy ? 16 : 0)
               : "memory");
}
/// Closes this thread's group of copies.
DEV_INLINE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most so many of this thread's groups are in flight.
template <int kPendingGroups>
DEV_INLINE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPendingGroups) : "memory");
}
/// Named barrier 1 to 15 of `num_threads` threads, a multiple of 32; bar_arrive does not wait.
DEV_INLINE void bar_sync(int id, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}
DEV_INLINE void bar_arrive(int id, int num_threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

// Hopper: mbarriers, bulk and tensor copies, wgmma
// ------------------------------------------------------------

/// An mbarrier in shared memory whose phases complete after so many arrivals and all bytes expected. By one
/// thread; then fence_mbarrier_init and a block barrier.
DEV_INLINE void mbarrier_init(std::uint64_t* mbarrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(smem_u32(mbarrier)), "r"(arrivals) : "memory");
}
DEV_INLINE void mbarrier_arrive(std::uint64_t* mbarrier) {
  DEV_SM90_ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_u32(mbarrier)) : "memory");
}
/// Arrives, and adds bytes that copies will have to bring before the phase completes.
DEV_INLINE void mbarrier_arrive_expect_tx(std::uint64_t* mbarrier, unsigned bytes) {
  DEV_SM90_ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_u32(mbarrier)), "r"(bytes)
               : "memory");
}
/// Waits for the completion of the phase of this parity: 0 for the first, then 1, 0, ... On a fresh mbarrier
/// parity 1 does not wait.
DEV_INLINE void mbarrier_wait_parity(std::uint64_t* mbarrier, unsigned parity) {
  DEV_SM90_ASM(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}" ::"r"(smem_u32(mbarrier)),
      "r"(parity)
      : "memory");
}
/// Makes initialised mbarriers visible to the copy engines.
DEV_INLINE void fence_mbarrier_init() { DEV_SM90_ASM("fence.mbarrier_init.release.cluster;" ::: "memory"); }
/// Makes this thread's writes to shared memory visible to the copy engines and to wgmma.
DEV_INLINE void fence_proxy_async() { DEV_SM90_ASM("fence.proxy.async.shared::cta;" ::: "memory"); }
/// Starts copying contiguous bytes from global to shared memory, all multiples of 16; they count towards
/// `mbarrier`.
DEV_INLINE void bulk_g2s(void* shared, const void* global, unsigned bytes, std::uint64_t* mbarrier) {
  DEV_SM90_ASM(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          smem_u32(shared)),
      "l"(global), "r"(bytes), "r"(smem_u32(mbarrier))
      : "memory");
}
/// The same for what is read once: first to leave L2.
DEV_INLINE void bulk_g2s_once(void* shared, const void* global, unsigned bytes, std::uint64_t* mbarrier) {
  DEV_SM90_ASM(
      "{\n"
      ".reg .b64 policy;\n"
      "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
      "[%3], policy;\n"
      "}" ::"r"(smem_u32(shared)),
      "l"(global), "r"(bytes), "r"(smem_u32(mbarrier))
      : "memory");
}

/// How 16-byte chunks are permuted within spans of shared memory; the values are wgmma descriptors'.
enum class Swizzle : int { None = 0, B128 = 1, B64 = 2, B32 = 3 };
/// A matrix in global memory as the copy engine sees it: a __grid_constant__ parameter of the kernel.
struct TensorMap2D {
  CUtensorMap map;
};
/// Starts copying the map's box at element (inner, outer) to shared memory, swizzled; what lies outside is
/// zero. Its bytes count towards `mbarrier`. `shared` is aligned to 8 spans of the swizzle, without one to
/// 128 bytes.
DEV_INLINE void tma_load_2d(void* shared, const TensorMap2D* map, int inner, int outer,
                            std::uint64_t* mbarrier) {
  DEV_SM90_ASM(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(smem_u32(shared)),
      "l"(map), "r"(inner), "r"(outer), "r"(smem_u32(mbarrier))
      : "memory");
}

/// A wgmma operand in shared memory. K-major: groups of 8 rows lie `stride_bytes` apart; without a swizzle,
/// 8x8 matrices lie `leading_bytes` apart along k.
DEV_INLINE std::uint64_t wgmma_desc(const void* shared, unsigned leading_bytes, unsigned stride_bytes,
                                    Swizzle swizzle) {
  return static_cast<std::uint64_t>((smem_u32(shared) & 0x3ffff) >> 4) |
         static_cast<std::uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<std::uint64_t>(stride_bytes >> 4) << 32 | static_cast<std::uint64_t>(swizzle) << 62;
}
DEV_INLINE std::uint64_t wgmma_desc_advance(std::uint64_t descriptor, unsigned bytes) {
  return descriptor + (bytes >> 4);
}
/// Before the first wgmma, and wherever registers that it reads or adds to were written.
DEV_INLINE void wgmma_fence() { DEV_SM90A_ASM("wgmma.fence.sync.aligned;" ::: "memory"); }
DEV_INLINE void wgmma_commit() { DEV_SM90A_ASM("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most so many groups are in flight; only then are their accumulators defined.
template <int kPendingGroups>
DEV_INLINE void wgmma_wait() {
  DEV_SM90A_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(kPendingGroups) : "memory");
}
// Between kernels and blocks
// ------------------------------------------------------------------------------------

/// In a kernel launched with launch_dependent: waits until the kernels before it have finished and their
/// writes are visible. Before it only what they do not write may be read, and nothing that they touch
/// written. At least one thread of the grid calls it. In any other kernel, or before sm_90, it does nothing.
DEV_INLINE void wait_for_prior_kernels() { DEV_SM90_ASM_ONLY("griddepcontrol.wait;" ::: "memory"); }
/// Lets the next kernel start, if it was launched with launch_dependent, once every block has come here or
/// ended; before sm_90 nothing.
DEV_INLINE void allow_next_kernel() { DEV_SM90_ASM_ONLY("griddepcontrol.launch_dependents;" ::: "memory"); }

/// A flag in global memory between blocks: who sees what was stored sees what was written before it.
DEV_INLINE std::uint32_t ld_acquire(const std::uint32_t* flag) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}
DEV_INLINE void st_release(std::uint32_t* flag, std::uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
/// Asks for a line of global memory in L2.
DEV_INLINE void prefetch_l2(const void* address) { asm volatile("prefetch.global.L2 [%0];" ::"l"(address)); }

}  // namespace redline::cuda::dev

#include "kernels/cuda/device_cuda_host.h"
#include "kernels/cuda/device_wgmma.h"
