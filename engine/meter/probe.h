// The measured peaks of this machine, kept between runs.
//
// The cache is a small JSON file, $XDG_CACHE_HOME/redline/probe-<cpu>.json (~/.cache by default), or the file
// that REDLINE_PROBE_CACHE names. It holds one entry for each instruction set and number of threads. A file
// of another machine, or one that cannot be read, counts as none; a file that cannot be written is no error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/meter/device_peaks.h"
#include "kernels/cpu/ceilings.h"
#include "kernels/ops.h"

namespace redline {

struct ProbeResult {
  Ceilings ceilings;
  std::int64_t measured_unix_s = 0;

  double age_s() const;
};

/// Where results are kept; empty where there is no place for them.
std::string probe_cache_path();

/// Measures anew, in about a second, and keeps the result. The last-level cache's size is filled in. Throws
/// std::invalid_argument for an unknown isa.
ProbeResult probe(CeilingOptions options = {});
/// What was kept for this machine, instruction set (empty: the widest of the machine) and number of threads
/// (0: one per core that this process may use). A result from a disturbed moment is kept for ten minutes.
std::optional<ProbeResult> kept_probe(const std::string& isa = {}, int threads = 0);
/// The kept result if there is one, else measured anew.
ProbeResult kept_or_new_probe(const std::string& isa = {}, int threads = 0);

/// This CPU with its measured peaks; vendors publish none that hold for it.
DevicePeaks peaks_of(const ProbeResult& result);
/// The device that `ops` runs on: the CPU with its kept or new probe; a GPU with its vendor's figures and
/// what it attains now; the bare name of another backend.
DevicePeaks peaks_for(Ops& ops);

}  // namespace redline
