#include "kernels/cuda/attention.cuh"

namespace redline::cuda {

void plan_paged_attention(const AttentionArgs& args, dev::stream_t stream) {
  launch_attention_plan(args, stream);
}

void run_paged_attention(const AttentionArgs& args, dev::stream_t stream) {
  launch_paged_attention(args, stream);
}

}  // namespace redline::cuda
