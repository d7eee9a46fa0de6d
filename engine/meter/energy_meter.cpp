#include "engine/meter/energy_meter.h"

#include <algorithm>
#include <utility>

namespace redline {

EnergyMeter::EnergyMeter(std::shared_ptr<DeviceSensors> sensors) : sensors_(std::move(sensors)) {
  if (sensors_) last_joules_ = sensors_->energy_joules();
  if (!last_joules_) sensors_.reset();
}

void EnergyMeter::begin(std::int64_t now_ns) {
  if (const auto joules = drawn_since_last(now_ns)) use_.idle += *joules;
}

void EnergyMeter::charge(const std::shared_ptr<EnergyShare>& share, double busy_ns) {
  if (busy_ns <= 0) return;
  if (share->busy_ns == 0) shares_.push_back(share);
  share->busy_ns += busy_ns;
}

void EnergyMeter::settle(std::int64_t now_ns) {
  double busy_ns = 0;
  for (const auto& share : shares_) busy_ns += share->busy_ns;
  const double time_ns = std::max(static_cast<double>(now_ns - last_ns_), busy_ns);
  const auto joules = drawn_since_last(now_ns);
  for (const auto& share : shares_) {
    share->is_known &= joules.has_value();
    const double part = joules ? *joules * (share->busy_ns / time_ns) : 0;
    share->joules += part;
    use_.busy += part;
    share->busy_ns = 0;
  }
  shares_.clear();
  if (joules && time_ns > 0) use_.gap += *joules * (1 - busy_ns / time_ns);
}

std::optional<double> EnergyMeter::drawn_since_last(std::int64_t now_ns) {
  const std::optional<double> now = sensors_->energy_joules();
  const std::optional<double> before = std::exchange(last_joules_, now);
  last_ns_ = now_ns;
  if (!now || !before) return std::nullopt;
  return std::max(0.0, *now - *before);
}

}  // namespace redline
