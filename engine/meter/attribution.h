// Whose time a step was (docs/accounting.md, "Attribution").
#pragma once

#include <cstddef>

#include "kernels/ledger.h"

namespace redline {

/// Nanoseconds of the step's busy time that sequence `index` of its batch, which is in `phase`, is charged:
/// of the phase's time as far as arithmetic bounds it the sequence's share of FLOPs, of the rest its share of
/// bytes (executed both). The shares of a phase's sequences sum to its busy time.
double attributed_busy_ns(const StepCounts& step, Phase phase, std::size_t index);

}  // namespace redline
