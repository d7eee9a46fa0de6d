#include "engine/meter/energy_meter.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>

namespace redline {
namespace {

// Plays a record of a sensor: its readings one after another, the last one for ever.
class RecordedSensors final : public DeviceSensors {
 public:
  explicit RecordedSensors(std::vector<std::optional<double>> joules) : joules_(std::move(joules)) {}
  DeviceHealth read() override {
    DeviceHealth health;
    health.energy_joules = joules_[std::min(num_readings++, joules_.size() - 1)];
    return health;
  }
  std::size_t num_readings = 0;

 private:
  std::vector<std::optional<double>> joules_;
};

std::shared_ptr<EnergyShare> new_share() { return std::make_shared<EnergyShare>(); }

TEST(EnergyMeter, DealsOutByBusyTimeAndKeepsGapsAndIdlenessApart) {
  EnergyMeter meter(
      std::make_shared<RecordedSensors>(std::vector<std::optional<double>>{100, 103, 113, 114}));
  const auto one = new_share(), other = new_share();
  meter.begin(1000);  // 3 J without work
  meter.charge(one, 300);
  meter.charge(other, 400);
  meter.charge(one, 200);
  meter.settle(2000);  // 10 J in 1000 ns, 900 of them busy
  EXPECT_DOUBLE_EQ(one->value().value(), 5);
  EXPECT_DOUBLE_EQ(other->value().value(), 4);
  meter.charge(other, 50);
  meter.settle(2100);  // 1 J, half of it
  EXPECT_DOUBLE_EQ(one->value().value(), 5);
  EXPECT_DOUBLE_EQ(other->value().value(), 4.5);
  EXPECT_DOUBLE_EQ(meter.use()->idle, 3);
  EXPECT_DOUBLE_EQ(meter.use()->gap, 1.5);
  EXPECT_DOUBLE_EQ(meter.use()->busy, 9.5);
}

TEST(EnergyMeter, IsOffWhereNoSensorTells) {
  for (const auto& sensors : {std::shared_ptr<RecordedSensors>(),
                              std::make_shared<RecordedSensors>(std::vector<std::optional<double>>{{}})}) {
    const EnergyMeter meter(sensors);
    EXPECT_FALSE(meter.is_on());
    EXPECT_FALSE(meter.use());
  }
}

TEST(EnergyMeter, WhatAFailedReadingWasForIsUnknownAndNothingElse) {
  EnergyMeter meter(
      std::make_shared<RecordedSensors>(std::vector<std::optional<double>>{1, 2, std::nullopt, 5, 9}));
  const auto before = new_share(), during = new_share(), after = new_share();
  meter.charge(before, 10);
  meter.settle(10);
  meter.charge(during, 10);
  meter.settle(20);  // fails
  meter.charge(during, 10);
  meter.settle(30);  // no reading before it
  meter.charge(after, 10);
  meter.settle(40);
  EXPECT_DOUBLE_EQ(before->value().value(), 1);
  EXPECT_FALSE(during->value());
  EXPECT_DOUBLE_EQ(after->value().value(), 4);
}

// A record with steps as coarse as NVML's, and a device that claims more busy time than there was.
TEST(EnergyMeter, AllPartsSumToWhatTheSensorCounted) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::vector<std::optional<double>> record{50};
  for (int i = 0; i < 400; ++i)
    record.push_back(*record.back() + (random() % 4 == 0 ? 0.001 * static_cast<double>(random() % 9000) : 0));
  EnergyMeter meter(std::make_shared<RecordedSensors>(record));
  std::vector<std::shared_ptr<EnergyShare>> shares;
  std::int64_t now_ns = 0;
  for (int i = 0; i < 400; ++i) {
    now_ns += 1 + static_cast<std::int64_t>(random() % 1000);
    if (random() % 5 == 0) {
      meter.begin(now_ns);
      continue;
    }
    for (std::uint64_t running = random() % 4; running > 0; --running) {
      if (shares.empty() || random() % 3 == 0) shares.push_back(new_share());
      meter.charge(shares[random() % shares.size()], static_cast<double>(random() % 400));
    }
    meter.settle(now_ns);
  }
  double sum = 0;
  for (const auto& share : shares) {
    EXPECT_GE(share->value().value(), 0);
    sum += *share->value();
  }
  const EnergyUse use = *meter.use();
  EXPECT_NEAR(sum, use.busy, 1e-9);
  EXPECT_NEAR(use.idle + use.gap + use.busy, *record.back() - 50, 1e-9);
  EXPECT_GT(use.busy, 0);
  EXPECT_GE(use.gap, 0);
}

}  // namespace
}  // namespace redline
