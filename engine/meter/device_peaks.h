// The rates that a device's work is held against, each with where it comes from.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/meter/hardware.h"
#include "kernels/dtype.h"
#include "kernels/ledger.h"

namespace redline {

/// Per second; 0 where unknown. `vendor` is published, `attainable` was measured `age_s` ago.
struct PeakRate {
  double vendor = 0;
  double attainable = 0;
  std::string source;
  std::optional<double> age_s;
};

struct DevicePeaks {
  std::string device_name;
  int threads = 0;  // 0 where the notion does not apply
  std::array<PeakRate, kNumComputeTypes> compute;
  PeakRate bandwidth;
  std::int64_t llc_bytes = 0;   // 0: unknown
  double nominal_clock_hz = 0;  // of the vendor's FLOP/s; 0: unknown

  Peaks vendor() const;
  Peaks attainable() const;
};

/// Seconds that the FLOPs, by the arithmetic that they run in, take at its peaks; nothing where one that they
/// need is unknown.
std::optional<double> seconds_at(const Peaks& peaks, const std::array<std::int64_t, kNumComputeTypes>& flops);

/// A device of the table: vendor's figures alone.
DevicePeaks peaks_of(const HardwareSpec& spec);

}  // namespace redline
