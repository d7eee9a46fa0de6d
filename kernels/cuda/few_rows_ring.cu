#include "kernels/cuda/few_rows.h"
#include "kernels/cuda/gemv_ring.cuh"

namespace redline::cuda {
namespace {

template <Epilogue kEpilogue, class Out>
bool multiply(const FewRowsArgs& args, dev::stream_t stream) {
  const auto linear = linear_args<bf16, Out>(args);
  if (!(args.norm != nullptr ? fits_ring_norm(linear, *args.norm) : fits_gemv_ring(linear))) return false;
  gemv_ring<kEpilogue>(linear, args.workspace, args.num_sms, stream, args.norm);
  return true;
}

}  // namespace

bool multiply_by_ring(const FewRowsArgs& args, dev::stream_t stream) {
  if (args.type != DType::kBF16 || args.workspace.sums == nullptr) return false;
  if (args.silu_mul) return multiply<Epilogue::kSiluMul, bf16>(args, stream);
  if (args.out_type == DType::kF32) return multiply<Epilogue::kNone, float>(args, stream);
  return multiply<Epilogue::kNone, bf16>(args, stream);
}

}  // namespace redline::cuda
