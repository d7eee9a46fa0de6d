#include "kernels/cuda/few_rows.h"

#include "kernels/cuda/gemm_packed.cuh"
#include "kernels/cuda/gemm_skinny.cuh"
#include "kernels/cuda/gemm_skinny_wgmma.cuh"
#include "kernels/cuda/gemv.cuh"

namespace redline::cuda {
namespace {

// On an H100, decode steps of a 1B model with q8_0 weights were still faster by gemm_skinny than on unpacked
// weights at 64 rows, but hardly: from there on gemm_packed, not yet measured, reads a fifth of the bytes.
// With bf16 weights cuBLASLt was ahead of gemm_skinny from 32 rows on.
constexpr int kMostSkinnyRows = 64;
constexpr int kLeastWgmmaRows = 5, kMostWgmmaRows = 128;

template <Epilogue kEpilogue, class A, class Out>
void multiply(const FewRowsArgs& args, dev::stream_t stream) {
  const auto linear = linear_args<A, Out>(args);
  if constexpr (std::is_same_v<A, bf16>)
    if (args.wgmma && args.num_tokens >= kLeastWgmmaRows && fits_gemm_skinny_wgmma(linear))
      return gemm_skinny_wgmma<kEpilogue>(linear, args.workspace, args.num_sms, stream);
  if constexpr (std::is_same_v<A, bf16>)
    if (args.num_tokens > kMostSkinnyRows && args.workspace.sums != nullptr && fits_gemm_packed(linear))
      return gemm_packed<kEpilogue>(linear, args.workspace, args.num_sms, stream);
  if constexpr (std::is_same_v<A, bf16>)
    if (args.num_tokens > kGemvMaxTokens && args.workspace.sums != nullptr && fits_gemm_skinny(linear))
      return gemm_skinny<kEpilogue>(linear, args.workspace, args.num_sms, stream);
  gemv<kEpilogue>(linear, stream);
}

template <class A>
void multiply(const FewRowsArgs& args, dev::stream_t stream) {
  if (args.silu_mul)
    multiply<Epilogue::kSiluMul, A, A>(args, stream);
  else if (args.out_type == DType::kF32)
    multiply<Epilogue::kNone, A, float>(args, stream);
  else
    multiply<Epilogue::kNone, A, A>(args, stream);
}

}  // namespace

int most_few_rows(DType type, DType weight, bool wgmma) {
  if (wgmma && type == DType::kBF16 && weight == DType::kBF16) return kMostWgmmaRows;
  return type == DType::kBF16 && is_quantized(weight) ? kPackedMaxTokens : kGemvMaxTokens;
}

SplitWorkspaceSize few_rows_workspace(int num_sms) {
  return {.num_blocks = skinny_workspace_blocks(num_sms),
          .num_sums = std::max({skinny_workspace_sums(num_sms), wide_workspace_sums(num_sms),
                                packed_workspace_sums(num_sms)})};
}

void multiply_few_rows(const FewRowsArgs& args, dev::stream_t stream) {
  if (args.ring && multiply_by_ring(args, stream)) return;
  if (args.type == DType::kBF16)
    multiply<bf16>(args, stream);
  else
    multiply<float>(args, stream);
}

}  // namespace redline::cuda
