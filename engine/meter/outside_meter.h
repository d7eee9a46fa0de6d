// A server seen from outside: what its counters, and who asks it, tell of the work that it did. Token counts
// give most FLOPs exactly; where work depends on what nobody tells (when steps ran, how long sequences were)
// there are bounds that hold whatever it was. docs/accounting.md, "Servers seen from outside".
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/meter/estimate.h"

namespace redline {

/// What a count is at least and at most.
struct Range {
  std::int64_t lower = 0, upper = 0;

  bool exact() const { return lower == upper; }
  bool operator==(const Range&) const = default;
};

/// A request of which all is known but, maybe, how much of its prompt was cached.
struct RequestLengths {
  std::int64_t prompt = 0, cached = 0, generated = 0;
};

/// What is told of the work of some time. Requests are those whose first token came; none failed.
struct OutsideCounts {
  Range computed_prompt_tokens, cached_prompt_tokens;  // of prompts: computed, and found in a cache
  std::int64_t generated_tokens = 0;
  Range requests;
  /// Of all requests, or empty; `cached` are told or, where not, 0.
  std::vector<RequestLengths> lengths;
  bool lengths_tell_cached = false;
  std::int64_t longest = 0;  // tokens of a sequence that are computed or cached, at most

  enum class Steps : std::uint8_t { kNotCounted, kThoseWithTokens, kAll };
  Steps counted_steps = Steps::kNotCounted;
  std::int64_t num_steps = 0;
  bool drafts = false;              // a sequence may gain several tokens in a step
  std::int64_t most_rows = 0;       // that a step computes; 0: not told
  std::int64_t most_sequences = 0;  // that run at a time; 0: not told
};

/// How a figure is known: a counter's value; a sum that counters and the model's shapes leave no choice in;
/// or only its bounds.
enum class Known : std::uint8_t { kCounted, kDerived, kBounded };
inline constexpr const char* kKnownNames[3] = {"counted", "derived", "bounded"};

/// What the work of a time was at least and at most: useful FLOPs, compulsory bytes.
struct OutsideWork {
  Range steps;
  Work lower, upper;
};

/// The work that `counts` leave possible for the model of `estimate`. A step is one that the server counts; a
/// step cuts one prompt at most.
OutsideWork outside_work(const OutsideCounts& counts, const Estimate& estimate);

/// The device that a server is said to run on.
struct OutsideDevice {
  std::string name;
  const char* peak_basis = "vendor";
  Peaks peaks;  // of all `num_devices` together
  std::int64_t num_devices = 1;
};

/// A server's utilisation over `wall_s`.
struct OutsideView {
  std::string server;  // "vllm", "sglang", "llama.cpp", "redline"; "unknown": the load generator alone tells
  OutsideCounts counts;
  OutsideWork work;
  OutsideDevice device;
  double wall_s = 0;
  std::optional<double> num_running, num_waiting;
  /// What the server itself estimates, where it does.
  std::optional<double> own_flops, own_bytes;
};

/// docs/json.md, "top --model".
nlohmann::ordered_json to_json(const OutsideView& view);
/// Lines for people, each ending in a newline.
std::string to_text(const OutsideView& view);

}  // namespace redline
