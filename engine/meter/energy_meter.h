// Whose a device's energy was (docs/accounting.md, "Attribution").
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/meter/device_sensors.h"

namespace redline {

/// Joules since the first reading; they sum to what the device drew.
struct EnergyUse {
  double idle = 0;  // no work was queued
  double gap = 0;   // work was, and the device did not execute
  double busy = 0;  // dealt out
};

/// One request's part.
struct EnergyShare {
  double busy_ns = 0;  // of the device's time, since the last reading
  double joules = 0;   // up to it
  bool is_known = true;

  std::optional<double> value() const { return is_known ? std::optional(joules) : std::nullopt; }
};

/// Deals out what the device drew between two readings: to each by its part of the device's busy time in
/// between, the rest of the time being a gap. A sensor that counts in coarse steps is coarse for short
/// requests, and nothing is lost. Where a reading fails, what was used since the last one is unknown.
class EnergyMeter {
 public:
  static constexpr std::int64_t kIntervalNs = 100'000'000;  // between readings while nothing ends

  /// Off where `sensors` is null or tells no energy: then nothing is ever read.
  explicit EnergyMeter(std::shared_ptr<DeviceSensors> sensors);

  bool is_on() const { return sensors_ != nullptr; }
  bool is_due(std::int64_t now_ns) const { return now_ns - last_ns_ >= kIntervalNs; }
  /// Work begins after a time without.
  void begin(std::int64_t now_ns);
  /// The device took `busy_ns` for it.
  void charge(const std::shared_ptr<EnergyShare>& share, double busy_ns);
  /// Reads the sensor, and deals out.
  void settle(std::int64_t now_ns);
  /// Nothing where it is off.
  std::optional<EnergyUse> use() const { return is_on() ? std::optional(use_) : std::nullopt; }

 private:
  std::optional<double> drawn_since_last(std::int64_t now_ns);

  std::shared_ptr<DeviceSensors> sensors_;
  std::optional<double> last_joules_;
  std::int64_t last_ns_ = 0;
  std::vector<std::shared_ptr<EnergyShare>> shares_;  // of busy time since then
  EnergyUse use_;
};

}  // namespace redline
