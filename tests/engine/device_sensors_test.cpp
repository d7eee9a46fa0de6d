#include "engine/meter/device_sensors.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace redline {
namespace {

namespace fs = std::filesystem;

// A /sys with two packages and two cores.
class CpuSensors : public testing::Test {
 protected:
  CpuSensors() {
    char name[] = "/tmp/redline_sysfs_XXXXXX";
    root_ = mkdtemp(name);
    for (int i = 0; i < 2; ++i) {
      const std::string zone = "class/powercap/intel-rapl:" + std::to_string(i);
      write(zone + "/name", "package-" + std::to_string(i));
      write(zone + "/energy_uj", "1000000");
      write(zone + "/max_energy_range_uj", "10000000");
      write(zone + "/constraint_0_power_limit_uw", "150000000");
      write(zone + ":0/name", "core");
      write(zone + ":0/energy_uj", "5");
      const std::string core = "devices/system/cpu/cpu" + std::to_string(i) + "/thermal_throttle/";
      write(core + "core_throttle_total_time_ms", std::to_string(1000 * i));
      write(core + "package_throttle_total_time_ms", "250");
    }
    write("devices/system/cpu/cpufreq/boost", "1");
  }
  ~CpuSensors() override { fs::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  fs::path root_;
};

TEST_F(CpuSensors, PackagesAddUpAndTheCoreThrottledLongestCounts) {
  const auto sensors = cpu_sensors(root_);
  write("class/powercap/intel-rapl:1/energy_uj", "3500000");
  const DeviceHealth health = sensors->read();
  EXPECT_DOUBLE_EQ(health.energy_joules.value(), 2.5);
  EXPECT_DOUBLE_EQ(health.power_limit_watts.value(), 300);
  EXPECT_DOUBLE_EQ(health.throttled_seconds.value(), 1);
}

TEST_F(CpuSensors, EnergyGoesOnWhereItsCounterStartsAgain) {
  const auto sensors = cpu_sensors(root_);
  write("class/powercap/intel-rapl:0/energy_uj", "9000000");
  EXPECT_DOUBLE_EQ(sensors->read().energy_joules.value(), 8);
  write("class/powercap/intel-rapl:0/energy_uj", "500000");
  EXPECT_DOUBLE_EQ(sensors->read().energy_joules.value(), 9.5);
}

TEST_F(CpuSensors, WhatIsNotThereOrMayNotBeReadIsNothing) {
  fs::remove(root_ / "class/powercap/intel-rapl:0/energy_uj");
  fs::remove(root_ / "class/powercap/intel-rapl:1/energy_uj");
  const DeviceHealth some = cpu_sensors(root_)->read();
  EXPECT_FALSE(some.energy_joules);
  EXPECT_TRUE(some.power_limit_watts);
  const DeviceHealth none = cpu_sensors("/no/such/folder")->read();
  EXPECT_FALSE(none.energy_joules || none.power_limit_watts || none.throttled_seconds);
}

TEST(NvidiaSensors, AreThoseOfTheGpuThatCudaMeans) {
  const DeviceHealth health = nvidia_sensors(0, REDLINE_FAKE_NVIDIA, REDLINE_FAKE_NVIDIA)->read();
  EXPECT_DOUBLE_EQ(health.energy_joules.value(), 123.456);
  EXPECT_DOUBLE_EQ(health.power_limit_watts.value(), 700);
  EXPECT_DOUBLE_EQ(health.throttled_seconds.value(), 2.5);
  EXPECT_DOUBLE_EQ(health.clock_hz.value(), 1647e6);
}

TEST(MeanClock, IsOfTheReadingsThereAreAndUnknownWithoutOneOrANominalClock) {
  MeanClock clock;
  EXPECT_FALSE(clock.share_of(1830e6));
  for (const std::optional<double> hz :
       {std::optional(1830e6), std::optional<double>(), std::optional(1464e6)}) {
    DeviceHealth health;
    health.clock_hz = hz;
    clock.add(health);
  }
  EXPECT_DOUBLE_EQ(clock.share_of(1830e6).value(), 0.9);
  EXPECT_FALSE(clock.share_of(0));
}

TEST(NvidiaSensors, SayNothingWithoutTheGpuOrItsLibraries) {
  for (const auto& sensors : {nvidia_sensors(1, REDLINE_FAKE_NVIDIA, REDLINE_FAKE_NVIDIA),
                              nvidia_sensors(0, "libno-such.so", REDLINE_FAKE_NVIDIA),
                              nvidia_sensors(0, REDLINE_FAKE_NVIDIA, "libno-such.so")}) {
    const DeviceHealth health = sensors->read();
    EXPECT_FALSE(health.energy_joules || health.power_limit_watts || health.throttled_seconds ||
                 health.clock_hz);
  }
}

}  // namespace
}  // namespace redline
