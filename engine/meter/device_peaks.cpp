#include "engine/meter/device_peaks.h"

namespace redline {
namespace {

Peaks select(const DevicePeaks& device, double PeakRate::*rate) {
  Peaks peaks;
  for (std::size_t i = 0; i < device.compute.size(); ++i) peaks.flops[i] = device.compute[i].*rate;
  peaks.bandwidth = device.bandwidth.*rate;
  return peaks;
}

}  // namespace

Peaks DevicePeaks::vendor() const { return select(*this, &PeakRate::vendor); }
Peaks DevicePeaks::attainable() const { return select(*this, &PeakRate::attainable); }

std::optional<double> seconds_at(const Peaks& peaks,
                                 const std::array<std::int64_t, kNumComputeTypes>& flops) {
  double seconds = 0;
  for (std::size_t i = 0; i < flops.size(); ++i) {
    if (flops[i] == 0) continue;
    if (peaks.flops[i] <= 0) return std::nullopt;
    seconds += static_cast<double>(flops[i]) / peaks.flops[i];
  }
  return seconds;
}

DevicePeaks peaks_of(const HardwareSpec& spec) {
  DevicePeaks device;
  device.device_name = spec.name;
  for (std::size_t i = 0; i < device.compute.size(); ++i) {
    device.compute[i].vendor = spec.flops[i].value;
    device.compute[i].source = spec.flops[i].source;
  }
  device.bandwidth.vendor = spec.bandwidth.value;
  device.bandwidth.source = spec.bandwidth.source;
  device.nominal_clock_hz = spec.clock_hz;
  return device;
}

}  // namespace redline
