// What this processor attains: rates of short loops that do nothing but multiply and add, or read memory, on
// the thread pool that the kernels use. They are the measured peaks of docs/accounting.md.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/ledger.h"

namespace redline {

struct CeilingOptions {
  std::string isa;                // one of ceiling_isas(); empty: the first
  int threads = 0;                // 0: one per core that this process may use
  std::int64_t llc_bytes = 0;     // last-level cache; 0: unknown, then its rate is not measured
  std::int64_t memory_bytes = 0;  // to read from memory; 0: eight times the cache, 512 MiB to 1 GiB, and at
                                  // most a quarter of what is free
  int samples = 15;               // of each loop; medians count
  double sample_s = 0.004;
};

/// Per second, all threads together, as if nothing else ran on the machine: arithmetic is timed on the
/// threads' own clocks; of the reads those samples count during which every thread had a core.
struct Ceilings {
  std::string isa;
  int threads = 0;
  // FLOPs (integer operations), a multiply and an add counting two; 0 for arithmetic that `isa` does not
  // have. fp32: fused multiply-add. bf16: vdpbf16ps. int16: pmaddwd and an add (vpdpwssd). int8: vpdpbusd, or
  // maddubs with eight products summed in int16 before they are widened.
  std::array<double, kNumComputeTypes> ops_per_s{};
  double memory_bytes_per_s = 0;  // reads of huge pages, far more than the caches hold
  double llc_bytes_per_s = 0;     // reads of a quarter of the last-level cache
  // Hardly a read ran undisturbed: other programs kept the cores busy. Reads are timed on the threads' clocks
  // then, which says too much where few threads at a time could already use up the memory's bandwidth.
  bool disturbed = false;

  Peaks peaks() const { return {ops_per_s, memory_bytes_per_s}; }
};

/// Instruction sets that this machine can run, the fastest first: see cpu_isa.cpp.
std::vector<std::string> ceiling_isas();

/// Measures as often as asked, on threads and memory of its own that it keeps: a pass of 15 samples takes 0.2
/// to 0.5 s. Not thread-safe.
class CeilingMeter {
 public:
  /// Throws std::invalid_argument for an unknown isa.
  explicit CeilingMeter(const CeilingOptions& options = {});
  ~CeilingMeter();
  Ceilings measure();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

/// Once, in about a second.
Ceilings measure_ceilings(const CeilingOptions& options = {});

}  // namespace redline
