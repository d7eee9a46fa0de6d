// What a load test asks, and when.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tools/load/arrivals.h"
#include "tools/load/lengths.h"

namespace redline::load {

using Json = nlohmann::ordered_json;

/// A prompt is units, which the in-process engine takes as token ids and a server as words, or a text.
struct LoadRequest {
  double send_at_s = 0;
  std::vector<std::int32_t> units{};
  std::size_t num_shared = 0;  // of the units: a prefix that other requests have too
  std::string text{};          // where there are no units
  Json messages = Json();      // or a conversation; null: none
  std::int64_t output_tokens = 1;
};

struct WorkloadOptions {
  std::size_t num_requests = 100;
  Lengths input, output;
  std::int64_t prefix_units = 0;  // before the input, shared
  std::int64_t num_prefixes = 1;  // different ones, each request having one of them
  Arrivals arrivals;
  std::int32_t num_units = 1;  // units are below
  std::uint64_t seed = 0;
};

/// Random prompts. A function of the options.
std::vector<LoadRequest> random_workload(const WorkloadOptions& options);

/// A recorded load: JSON lines {"timestamp": milliseconds, "input_length": N, "output_length": N}, as
/// Mooncake publishes and aiperf replays them, with "hash_ids" where given: equal ids stand for equal blocks
/// of 512 tokens, which become equal units here. Sent at the recorded times divided by `speed`; num_requests
/// is how many lines at most. Throws std::runtime_error naming file, line and what is wrong there.
std::vector<LoadRequest> replayed_workload(const std::string& path, double speed,
                                           const WorkloadOptions& options);

/// Prompts from JSON lines {"prompt": TEXT} or {"messages": [...]}, with "output_tokens" where it is not to
/// be drawn; begun again after the last. Throws as replayed_workload does.
std::vector<LoadRequest> dataset_workload(const std::string& path, const WorkloadOptions& options);

/// Common English words, each about one token of most vocabularies: unit i is word i modulo their number.
std::string as_words(std::span<const std::int32_t> units);
/// How many words there are.
std::int32_t num_words();

}  // namespace redline::load
