// Products with few token rows, whatever the types: gemv.cuh, gemm_skinny.cuh, gemm_packed.cuh and their like
// behind one function, so that their many kernels compile apart from who calls them.
#pragma once

#include "kernels/cuda/linear_args.cuh"
#include "kernels/cuda/stage_split.cuh"
#include "kernels/dtype.h"

namespace redline::cuda {

/// out[M, N] = x[M, K] weight[N, K]^T for few M, or with `silu_mul` out[M, N] = silu(x gate^T) *
/// (x up^T), weight holding N rows of gate, then N of up. x of `type` (bf16 or f32), out of `out_type`
/// (`type` or f32; with silu_mul `type`). `workspace` holds
/// what few_rows_workspace says.
struct FewRowsArgs {
  WeightArrays weight;
  DType type = DType::kBF16, out_type = DType::kBF16;
  const void* x = nullptr;
  void* out = nullptr;
  std::int64_t x_stride = 0, out_stride = 0;
  int num_tokens = 0;
  bool silu_mul = false;
  bool wgmma = false;                  // gemm_skinny_wgmma.cuh from five rows of bf16 on; on sm_90a
  bool ring = false;                   // gemv_ring.cuh up to eight rows, launched as dependent; from sm_90 on
  const NormPrologue* norm = nullptr;  // makes x first; multiply_by_ring alone takes it
  SplitWorkspace workspace;
  int num_sms = 0;
};
template <class A, class Out>
inline LinearArgs<A, Out> linear_args(const FewRowsArgs& args) {
  return {.weight = args.weight,
          .x = static_cast<const A*>(args.x),
          .x_stride = args.x_stride,
          .out = static_cast<Out*>(args.out),
          .out_stride = args.out_stride,
          .num_tokens = args.num_tokens};
}
/// Up to how many rows multiply_few_rows is faster than a product on unpacked weights: x of `type`, the
/// weights of `weight`. With `wgmma`, how many gemm_skinny_wgmma is meant for.
int most_few_rows(DType type, DType weight, bool wgmma = false);

/// Elements of a SplitWorkspace's two arrays.
struct SplitWorkspaceSize {
  std::int64_t num_blocks = 0, num_sums = 0;
};
SplitWorkspaceSize few_rows_workspace(int num_sms);

void multiply_few_rows(const FewRowsArgs& args, dev::stream_t stream);
/// The same by gemv_ring.cuh, and the norm before it, if that takes them: whether it does.
bool multiply_by_ring(const FewRowsArgs& args, dev::stream_t stream);

}  // namespace redline::cuda
