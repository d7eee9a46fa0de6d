// What tokens cost: prices, utilisation and measured runs (docs/accounting.md, "Cost").
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>

namespace redline {

inline constexpr double kSecondsPerHour = 3600, kHoursPerYear = 8760;

/// Of one token: price of an hour of a device, FLOPs of the token, MFU over *wall* time, the device's peak.
double cost_per_token(double price_per_hour, double flops_per_token, double mfu_wall,
                      double peak_flops_per_s);

/// What a change of MFU saves a fleet that does the same work: devices needed go with 1 / MFU.
struct MfuChange {
  double devices = 0, mfu_from = 0, mfu_to = 0, price_per_hour = 0;  // of a device

  double share_saved() const { return 1 - mfu_from / mfu_to; }
  double devices_saved() const { return devices * share_saved(); }
  double saved_per_hour() const { return devices_saved() * price_per_hour; }
  double saved_per_year() const { return saved_per_hour() * kHoursPerYear; }
};

/// What a run did, on `num_devices` devices. The phases' times are attributed device time: busy, and gaps
/// with work queued; whatever of the wall time is no phase's is idle.
struct MeasuredRun {
  double wall_s = 0, prefill_s = 0, decode_s = 0;
  std::int64_t input_tokens = 0, output_tokens = 0;  // delivered
  std::optional<double> mfu{};                       // over wall time

  double idle_s() const { return wall_s - prefill_s - decode_s; }
};

/// Reads what `redline run --json`, `batch --json` (an object with `utilization`) and `bench --json` (an
/// array of rows, which count as one run) print. Throws std::runtime_error saying what is missing.
MeasuredRun measured_run(const nlohmann::ordered_json& json);

/// A run at a price. Input tokens are charged prefill's time, output tokens decode's (the first one comes of
/// prefill); idle time is charged to none. The three parts sum to `total`.
struct RunCost {
  double total = 0, input = 0, output = 0, idle = 0;
  std::optional<double> per_million_input, per_million_output;  // nothing without such tokens
  std::optional<double> per_million_delivered;                  // output tokens bear everything, idle too
};
RunCost cost_of(const MeasuredRun& run, double price_per_hour, double num_devices = 1);

/// Devices that a load keeps busy, at the run's attributed time a token; nothing where the run lacks such
/// tokens. `most_busy`: the share of the time that a device may be busy, for the load's ups and downs.
std::optional<double> devices_needed(const MeasuredRun& run, double input_per_s, double output_per_s,
                                     double most_busy = 1);

}  // namespace redline
