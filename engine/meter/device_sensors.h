// What a device's own sensors say of its power and heat.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace redline {

/// Nothing where the device, its driver or the permission to read it is missing.
struct DeviceHealth {
  std::optional<double> energy_joules;      // drawn since some moment: differences count
  std::optional<double> power_limit_watts;  // that the device keeps to
  std::optional<double> throttled_seconds;  // that heat held its clock down, since some moment
  std::optional<double> clock_hz;           // of what computes, now
};

/// The mean of a device's clock while it worked.
class MeanClock {
 public:
  void add(const DeviceHealth& health) {
    if (!health.clock_hz) return;
    sum_hz_ += *health.clock_hz;
    ++num_readings_;
  }
  /// As a share of the nominal clock; nothing where that is unknown (0), or the clock not exposed.
  std::optional<double> share_of(double nominal_hz) const {
    if (num_readings_ == 0 || nominal_hz <= 0) return std::nullopt;
    return sum_hz_ / num_readings_ / nominal_hz;
  }

 private:
  double sum_hz_ = 0;
  int num_readings_ = 0;
};

class DeviceSensors {
 public:
  virtual ~DeviceSensors() = default;
  virtual DeviceHealth read() = 0;
  /// DeviceHealth::energy_joules alone: cheap enough to be asked some ten times a second while the device
  /// works.
  virtual std::optional<double> energy_joules() { return read().energy_joules; }
};

/// The processor's packages together: RAPL's energy and limits and the cores' throttle counters (of the core
/// that was throttled longest), as Linux shows them below `sysfs`. No clock: a processor's peaks are
/// measured, at whatever clock it then had.
std::unique_ptr<DeviceSensors> cpu_sensors(const std::string& sysfs = "/sys");

/// The NVIDIA GPU that CUDA counts as `device`, by NVML. The libraries are opened when this is called; where
/// one of them or the GPU is missing, every reading is empty.
std::unique_ptr<DeviceSensors> nvidia_sensors(int device, const std::string& nvml = "libnvidia-ml.so.1",
                                              const std::string& cuda = "libcuda.so.1");

}  // namespace redline
