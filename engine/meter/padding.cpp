#include "engine/meter/padding.h"

namespace redline {

Counts padding_of(const Ops& ops, const BatchView& batch, const StepCounts& step, DType kv_dtype) {
  const std::int64_t num_tokens = batch.num_tokens();
  if (std::ssize(batch.sequences) != num_tokens || batch.num_logit_rows() != num_tokens) return {};
  const std::int64_t num_rows = ops.padded_rows(num_tokens) - num_tokens;
  return num_rows > 0 ? padding_of(num_rows, step, ops.compute_type(OpKind::kPagedAttention, kv_dtype))
                      : Counts{};
}

// Each row of the step had the same products.
Counts padding_of(std::int64_t num_rows, const StepCounts& step, ComputeType attention) {
  Counts all = step.phase[0];
  all += step.phase[1];
  const std::int64_t num_tokens = all.tokens + all.wasted_tokens;
  Counts padding;
  if (num_tokens == 0) return padding;
  padding.wasted_tokens = num_rows;
  for (std::size_t part = 0; part < kNumParts; ++part)
    if (static_cast<Part>(part) != Part::kAttention)
      padding.wasted_flops[part] = (all.flops[part] + all.wasted_flops[part]) / num_tokens * num_rows;
  constexpr auto kAttention = static_cast<std::size_t>(Part::kAttention);
  auto by_type = all.executed_flops_by_type();
  by_type[static_cast<std::size_t>(attention)] -= all.flops[kAttention] + all.wasted_flops[kAttention];
  for (std::size_t type = 0; type < kNumComputeTypes; ++type)
    padding.wasted_flops_by_type[type] = by_type[type] / num_tokens * num_rows;
  return padding;
}

}  // namespace redline
