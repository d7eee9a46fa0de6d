#include "engine/meter/hardware.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/meter/device_peaks.h"

namespace redline {
namespace {

constexpr std::size_t kBF16 = static_cast<std::size_t>(ComputeType::kBF16);

TEST(Hardware, IsFoundByIdAndNameInAnyCase) {
  ASSERT_NE(find_hardware("H100"), nullptr);
  EXPECT_EQ(find_hardware("H100"), find_hardware("nvidia h100 sxm"));
  EXPECT_EQ(find_hardware("H100"), find_hardware("NVIDIA H100 80GB HBM3")) << "as its driver says";
  EXPECT_EQ(find_hardware("h1000"), nullptr);
  EXPECT_EQ(find_hardware(""), nullptr);
}

TEST(Hardware, BalancePointsAreThoseOfTheAccountingDocument) {
  const std::pair<const char*, double> kBalance[] = {
      {"h100", 295}, {"h200", 206}, {"a100", 153}, {"a100-40gb", 200}};
  for (const auto& [id, balance] : kBalance) {
    const HardwareSpec* spec = find_hardware(id);
    ASSERT_NE(spec, nullptr) << id;
    EXPECT_NEAR(spec->flops[kBF16].value / spec->bandwidth.value, balance, 0.7) << id;
  }
}

TEST(Hardware, NominalClocksGiveThePublishedFlops) {
  const struct {
    const char* id;
    double multiprocessors, flops_per_clock;  // dense bf16, of one
  } kDevices[] = {{"h100", 132, 4096}, {"h100-pcie", 114, 4096}, {"h200", 132, 4096},
                  {"a100", 108, 2048}, {"a100-40gb", 108, 2048}, {"l4", 58, 1024},
                  {"a10", 72, 1024}};
  for (const auto& each : kDevices) {
    const HardwareSpec& spec = *find_hardware(each.id);
    const double flops = spec.clock_hz * each.multiprocessors * each.flops_per_clock;
    EXPECT_NEAR(flops / spec.flops[kBF16].value, 1, 0.005) << each.id;
    EXPECT_EQ(peaks_of(spec).nominal_clock_hz, spec.clock_hz);
  }
}

TEST(Hardware, EveryFigureHasASourceAndIdsDiffer) {
  std::set<std::string> ids;
  for (const HardwareSpec& spec : known_hardware()) {
    EXPECT_TRUE(ids.insert(spec.id).second) << spec.id;
    for (const Figure& figure : spec.flops) EXPECT_EQ(figure.value > 0, *figure.source != '\0') << spec.id;
    EXPECT_GT(spec.bandwidth.value, 0) << spec.id;
    EXPECT_NE(*spec.bandwidth.source, '\0') << spec.id;
    EXPECT_GT(spec.memory_bytes, 0) << spec.id;
    EXPECT_EQ(peaks_of(spec).vendor().flops, spec.peaks().flops);
    EXPECT_EQ(peaks_of(spec).attainable().bandwidth, 0);
  }
}

TEST(Hardware, ThisCpuIsDescribed) {
  const CpuDescription& cpu = this_cpu();
  EXPECT_FALSE(cpu.name.empty());
  EXPECT_FALSE(cpu.key.empty());
  EXPECT_EQ(cpu.key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-"), std::string::npos) << cpu.key;
  EXPECT_GE(cpu.num_cores, 1);
  EXPECT_GT(cpu.memory_bytes, 0);
}

}  // namespace
}  // namespace redline
