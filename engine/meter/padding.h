// What a device computes beside a step's sequences.
#pragma once

#include "kernels/ops.h"

namespace redline {

/// The rows by which the device fills a step up to a size that it has captured (Ops::padded_rows): they
/// belong to no sequence and are in vain. A step whose sequences compute a token each, with logits, may be
/// filled up; no other is. Their products are counted, and not their attention, each row's to itself alone.
Counts padding_of(const Ops& ops, const BatchView& batch, const StepCounts& step, DType kv_dtype);

/// The same of `num_rows` such rows, where attention computes in `attention`.
Counts padding_of(std::int64_t num_rows, const StepCounts& step, ComputeType attention);

}  // namespace redline
