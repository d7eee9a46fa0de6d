// Launches paged attention for a whole step (attention.h says how it is divided).
#pragma once

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_decode_tma.cuh"
#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/attention_plan.cuh"
#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/attention_prefill_wgmma.cuh"

namespace redline::cuda {

/// One layer's attention for the step that args.plan divides. At most two kernels; the geometry depends on
/// args.shape and args.counts alone. Never allocates or synchronises.
inline void launch_paged_attention(const AttentionArgs& args, dev::stream_t stream) {
  const AttentionShape& s = args.shape;
  REDLINE_CHECK(s.head_dim > 0 && s.head_dim <= kMaxHeadDim && s.head_dim == args.kv.head_dim &&
                    s.num_kv_heads == args.kv.num_kv_heads && args.scale > 0,
                "attention: shape and cache agree");
  REDLINE_CHECK(static_cast<std::int64_t>(args.kv.num_blocks) * s.num_kv_heads * 2 * args.kv.block_size <
                    std::int64_t{1} << 31,
                "rows of the cache are counted in 32 bits");
  if (args.counts.num_split_rows > 0) {
    if (s.rung == AttentionRung::kWgmma && s.head_dim <= 128)
      launch_attention_decode_tma(args, stream);
    else if (s.rung != AttentionRung::kPlain)
      launch_attention_decode(args, stream);
    else if (s.cache_type == DType::kBF16)
      launch_attention_plain<dev::bf16>(args, stream);
    else
      launch_attention_plain<float>(args, stream);
  }
  if (args.counts.num_prefill_tiles > 0) {
    if (s.rung == AttentionRung::kWgmma)
      launch_attention_prefill_wgmma(args, stream);
    else
      launch_attention_prefill(args, stream);
  }
}

}  // namespace redline::cuda
