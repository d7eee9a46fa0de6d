// What the metrics of vLLM, SGLang, llama.cpp and Redline tell of a server's work: the difference of two
// pages.
#pragma once

#include <optional>
#include <string>

#include "engine/meter/outside_meter.h"
#include "tools/load/drive.h"
#include "tools/load/metrics_page.h"

namespace redline::load {

/// "vllm", "sglang", "llama.cpp", "redline"; empty where the page is of none of them.
std::string server_of(const MetricsPage& page);

/// How a server was started, as far as it is told; 0: not.
struct ServerLimits {
  std::int64_t most_sequences = 0, most_rows = 0;
  std::int64_t longest = 0;  // tokens of a sequence, the model's own limit at most
};

/// What the server did between two of its pages. Counters that grew backwards give nothing: it was started
/// anew.
std::optional<OutsideCounts> counts_between(const MetricsPage& before, const MetricsPage& after,
                                            const ServerLimits& limits);

/// What is known after a run of the load generator: of the server's pages where it has them, with the lengths
/// of all requests where the pages tell of no others; else of the run's own requests alone, and nothing where
/// one of those failed: what it cost is not known.
std::optional<OutsideCounts> counts_of(const DriveResult& outcome, const ServerLimits& limits);

/// Both together, with what the server says of its queue and of its own work; `device` and `work` are left
/// empty.
OutsideView view_between(const MetricsPage& before, const MetricsPage& after, const OutsideCounts& counts,
                         double wall_s);

}  // namespace redline::load
