#include "engine/meter/device_sensors.h"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

namespace redline {
namespace {

namespace fs = std::filesystem;

std::optional<double> read_number(const fs::path& path) {
  double value = 0;
  std::ifstream file(path);
  if (!(file >> value)) return std::nullopt;
  return value;
}

/// The folder's entries whose names begin with `prefix`; none where it cannot be read.
std::vector<fs::path> entries(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().starts_with(prefix)) found.push_back(entry->path());
  std::ranges::sort(found);
  return found;
}

class CpuSensors final : public DeviceSensors {
 public:
  explicit CpuSensors(const std::string& sysfs) {
    for (const fs::path& zone : entries(fs::path(sysfs) / "class/powercap", "intel-rapl:"))
      if (std::string name; std::ifstream(zone / "name") >> name && name.starts_with("package"))
        packages_.push_back({zone, read_number(zone / "energy_uj"), 0});
    for (const fs::path& cpu : entries(fs::path(sysfs) / "devices/system/cpu", "cpu"))
      for (const char* of : {"core", "package"})
        if (const fs::path file = cpu / "thermal_throttle" / (std::string(of) + "_throttle_total_time_ms");
            read_number(file))
          throttle_files_.push_back(file);
  }

  DeviceHealth read() override {
    DeviceHealth health;
    health.energy_joules = energy_joules();
    for (const Package& package : packages_) {
      if (const auto limit = read_number(package.zone / "constraint_0_power_limit_uw"); limit && *limit > 0)
        health.power_limit_watts = health.power_limit_watts.value_or(0) + *limit * 1e-6;
    }
    for (const fs::path& file : throttle_files_)
      if (const auto ms = read_number(file))
        health.throttled_seconds = std::max(health.throttled_seconds.value_or(0), *ms * 1e-3);
    return health;
  }
  std::optional<double> energy_joules() override {
    std::optional<double> sum;
    for (Package& package : packages_)
      if (const auto joules = joules_of(package)) sum = sum.value_or(0) + *joules;
    return sum;
  }

 private:
  struct Package {
    fs::path zone;
    std::optional<double> last_uj;
    double sum_uj = 0;
  };

  /// The counter starts again at a limit of its own.
  static std::optional<double> joules_of(Package& package) {
    const auto now_uj = read_number(package.zone / "energy_uj");
    if (!now_uj) return std::nullopt;
    double more_uj = *now_uj - package.last_uj.value_or(*now_uj);
    if (more_uj < 0) more_uj += read_number(package.zone / "max_energy_range_uj").value_or(-more_uj);
    package.sum_uj += more_uj;
    package.last_uj = now_uj;
    return package.sum_uj * 1e-6;
  }

  std::vector<Package> packages_;
  std::vector<fs::path> throttle_files_;
};

class Library {
 public:
  explicit Library(const std::string& name) : handle_(dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL)) {}
  ~Library() {
    if (handle_) dlclose(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  /// What the function returns; nothing where the library lacks it.
  template <class... Arguments>
  std::optional<int> call(const char* name, Arguments... arguments) const {
    void* const symbol = handle_ ? dlsym(handle_, name) : nullptr;
    if (!symbol) return std::nullopt;
    return reinterpret_cast<int (*)(Arguments...)>(symbol)(arguments...);
  }

 private:
  void* handle_;
};

// NVML's and the driver's C interfaces, as NVIDIA documents them: 0 is success.
class NvidiaSensors final : public DeviceSensors {
 public:
  NvidiaSensors(int device, const std::string& nvml, const std::string& cuda) : nvml_(nvml) {
    // NVML counts all GPUs, CUDA those that it may see: the address on the bus is the same for both.
    const Library driver(cuda);
    char address[32] = {};
    int handle = 0;
    if (driver.call("cuInit", 0u) != 0 || driver.call("cuDeviceGet", &handle, device) != 0 ||
        driver.call("cuDeviceGetPCIBusId", static_cast<char*>(address), static_cast<int>(sizeof address),
                    handle) != 0)
      return;
    started_ = nvml_.call("nvmlInit_v2") == 0;
    if (started_ &&
        nvml_.call("nvmlDeviceGetHandleByPciBusId_v2", static_cast<const char*>(address), &device_) != 0)
      device_ = nullptr;
  }
  ~NvidiaSensors() override {
    if (started_) nvml_.call("nvmlShutdown");
  }

  DeviceHealth read() override {
    DeviceHealth health;
    if (!device_) return health;
    health.energy_joules = energy_joules();
    unsigned int milliwatts = 0;
    if (nvml_.call("nvmlDeviceGetEnforcedPowerLimit", device_, &milliwatts) == 0)
      health.power_limit_watts = milliwatts * 1e-3;
    constexpr int kThermalPolicy = 1;  // NVML_PERF_POLICY_THERMAL
    ViolationTime violation;
    if (nvml_.call("nvmlDeviceGetViolationStatus", device_, kThermalPolicy, &violation) == 0)
      health.throttled_seconds = static_cast<double>(violation.violation_ns) * 1e-9;
    constexpr int kMultiprocessors = 1;  // NVML_CLOCK_SM
    unsigned int megahertz = 0;
    if (nvml_.call("nvmlDeviceGetClockInfo", device_, kMultiprocessors, &megahertz) == 0)
      health.clock_hz = megahertz * 1e6;
    return health;
  }
  std::optional<double> energy_joules() override {
    unsigned long long millijoules = 0;
    if (!device_ || nvml_.call("nvmlDeviceGetTotalEnergyConsumption", device_, &millijoules) != 0)
      return std::nullopt;
    return static_cast<double>(millijoules) * 1e-3;
  }

 private:
  struct ViolationTime {  // nvmlViolationTime_t
    unsigned long long reference_us = 0, violation_ns = 0;
  };

  const Library nvml_;
  void* device_ = nullptr;
  bool started_ = false;
};

}  // namespace

std::unique_ptr<DeviceSensors> cpu_sensors(const std::string& sysfs) {
  return std::make_unique<CpuSensors>(sysfs);
}

std::unique_ptr<DeviceSensors> nvidia_sensors(int device, const std::string& nvml, const std::string& cuda) {
  return std::make_unique<NvidiaSensors>(device, nvml, cuda);
}

}  // namespace redline
