// Stands where cuBLASLt stands on a GPU: one thread an output, so that it is launched, captured and replayed
// as any kernel is.
#include "kernels/cuda/gemm.h"

#include "kernels/cuda/device.h"

namespace redline::cuda {
namespace {

constexpr int kThreads = 128;

template <class A, class Out>
__global__ void multiply(const GemmArgs args) {
  const std::int64_t n = std::int64_t{blockIdx.x} * kThreads + threadIdx.x, m = blockIdx.y;
  if (n >= args.n) return;
  const A* const x = static_cast<const A*>(args.x) + m * args.x_stride;
  const A* const weight = static_cast<const A*>(args.weight) + n * args.k;
  float sum = 0;
  for (std::int64_t k = 0; k < args.k; ++k) sum += static_cast<float>(x[k]) * static_cast<float>(weight[k]);
  static_cast<Out*>(args.out)[m * args.out_stride + n] = static_cast<Out>(sum);
}

template <class A, class Out>
void launch(const GemmArgs& args, const Stream& stream) {
  dev::launch(multiply<A, Out>,
              dim3(static_cast<unsigned>((args.n + kThreads - 1) / kThreads), static_cast<unsigned>(args.m)),
              dim3(kThreads), 0, stream.get(), args);
}

}  // namespace

struct Gemm::Library {};

Gemm::Gemm() = default;
Gemm::~Gemm() = default;

void Gemm::run(const GemmArgs& args, const Stream& stream) {
  if (args.m == 0 || args.n == 0) return;
  if (args.type == DType::kF32)
    launch<float, float>(args, stream);
  else if (args.out_type == DType::kF32)
    launch<dev::bf16, float>(args, stream);
  else
    launch<dev::bf16, dev::bf16>(args, stream);
}

}  // namespace redline::cuda
