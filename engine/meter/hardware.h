// What is known about devices: vendors' figures with their sources, and the machine that this process runs
// on.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/dtype.h"
#include "kernels/ledger.h"

namespace redline {

/// A published figure and where it stands; 0 where none is published.
struct Figure {
  double value = 0;
  const char* source = "";
};

/// What a vendor says about a device: dense rates (no structured sparsity), FLOPs (integer operations for
/// integer types) and bytes per second.
struct HardwareSpec {
  std::string id;           // as --on takes it: "h100"
  std::string name;         // "NVIDIA H100 SXM"
  std::string driver_name;  // as its driver calls it: "NVIDIA H100 80GB HBM3"
  std::array<Figure, kNumComputeTypes> flops{};
  Figure bandwidth;
  std::int64_t memory_bytes = 0;
  double clock_hz = 0;  // at which the published tensor FLOP/s hold; 0: not published

  Peaks peaks() const;
};

/// Every device of the table.
std::span<const HardwareSpec> known_hardware();
/// The device whose id or name, the driver's included, is `text`, letter case aside; nullptr when there is
/// none.
const HardwareSpec* find_hardware(std::string_view text);

/// The processor as the operating system describes it; 0 and empty where it does not say.
struct CpuDescription {
  std::string name;            // "AMD EPYC 9654 96-Core Processor"
  std::string key;             // tells processors apart: name, family, model, stepping, cores, caches
  int num_cores = 1;           // that this process may use
  std::int64_t llc_bytes = 0;  // last-level caches of those cores together
  std::int64_t memory_bytes = 0;
};
const CpuDescription& this_cpu();

}  // namespace redline
