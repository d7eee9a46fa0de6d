// What a model on a device has been measured to do, and whether it still does (docs/accounting.md,
// "Baselines").
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace redline {

/// Measurements of the same: only such are compared.
struct BaselineKey {
  std::string model, device, dtype, phase;  // "prefill", "decode", "load"
  std::int64_t batch = 0, context = 0;      // buckets: the greatest power of two up to it, or 0

  auto operator<=>(const BaselineKey&) const = default;
};

/// Distributions by name: "mfu", "mbu", "tokens_per_s", of loads "ttft_s", "tpot_s".
using BaselineSamples = std::map<std::string, std::vector<double>>;
using Baseline = std::map<BaselineKey, BaselineSamples>;

/// The greatest power of two up to `value`; 0 below 1.
std::int64_t bucket_of(std::int64_t value);

/// Adds what `redline bench --json` (a repetition a sample) or `bench load`, `bench serve` with --json
/// --detailed (a request a sample) printed. Throws std::runtime_error saying what is missing.
void add_run(Baseline& baseline, const nlohmann::ordered_json& run);

nlohmann::ordered_json to_json(const Baseline& baseline);
/// Throws std::runtime_error where it is none.
Baseline baseline_from_json(const nlohmann::ordered_json& json);

struct BaselineLimits {
  double chance = 0.05;        // of any false alarm in a whole check
  double least_effect = 0.05;  // a median that is worse by less is no regression, however sure
};

enum class BaselineVerdict : std::uint8_t { kKept, kRegressed, kTooFew };
inline constexpr const char* kBaselineVerdictNames[] = {"kept", "regressed", "too few measurements"};

/// One figure of one bucket that both hold.
struct BaselineFinding {
  BaselineKey key;
  std::string figure;
  double before = 0, after = 0;  // medians
  double worse_by = 0;           // share of `before`; negative: better
  double chance = 1;             // that the same would measure as bad, corrected for the number of figures
  BaselineVerdict verdict{};
};

/// Each bucket's own figure: MFU of prefill, MBU of decode (tokens per second where they are unknown), TTFT
/// and TPOT of loads. Mann and Whitney's test with Holm's correction over all. What is in one of the two
/// alone is not compared: another mix of traffic is no change.
std::vector<BaselineFinding> check(const Baseline& baseline, const Baseline& run,
                                   const BaselineLimits& limits);

}  // namespace redline
