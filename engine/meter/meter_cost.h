// What metering itself takes of a step.
#pragma once

#include <cstdint>

namespace redline {

/// The ledger's time, as measured on this machine.
struct MeterCost {
  double step_ns = 0;      // a step without operations
  double op_ns = 0;        // each operation's charge and reading of the clock
  double sequence_ns = 0;  // each sequence's share of a step, multiplied out and attributed

  double of(std::int64_t num_ops, std::int64_t num_sequences) const {
    return step_ns + op_ns * static_cast<double>(num_ops) + sequence_ns * static_cast<double>(num_sequences);
  }
};

/// Steps of a ledger of its own, charged as a model's are; takes some milliseconds.
MeterCost measure_meter_cost();

}  // namespace redline
