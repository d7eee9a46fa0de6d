#include "engine/meter/utilization.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/engine.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kInt8 = static_cast<std::size_t>(ComputeType::kInt8);
constexpr std::size_t kF32 = static_cast<std::size_t>(ComputeType::kF32);
constexpr std::size_t kPrefill = static_cast<std::size_t>(Phase::kPrefill);
constexpr std::size_t kDecode = static_cast<std::size_t>(Phase::kDecode);

DevicePeaks cpu_like() {
  DevicePeaks peaks;
  peaks.device_name = "A CPU";
  peaks.threads = 2;
  peaks.compute[kInt8] = {.attainable = 400e9, .source = "measured", .age_s = 180};
  peaks.compute[kF32] = {.attainable = 100e9, .source = "measured", .age_s = 180};
  peaks.bandwidth = {.attainable = 20e9, .source = "measured", .age_s = 180};
  peaks.llc_bytes = 32 << 20;
  return peaks;
}

// 300 M int8 FLOPs in projections, FFN and head, 100 M fp32 FLOPs in attention.
Counts counts(std::int64_t tokens) {
  Counts c;
  c.tokens = tokens;
  c.flops = {100'000'000, 100'000'000, 150'000'000, 50'000'000, 7'000'000};
  c.flops_by_type[kInt8] = 300'000'000;
  c.flops_by_type[kF32] = 100'000'000;
  c.weights = 90'000'000;
  c.kv_read = 8'000'000;
  c.kv_write = 2'000'000;
  c.kv_read_logical = 9'000'000;
  c.activations = 1'000'000;
  c.declared = 104'000'000;
  return c;
}

StepCounts step_of(Phase phase, const Counts& c, double busy_ns, double ideal_ns) {
  StepCounts step;
  const std::size_t p = static_cast<std::size_t>(phase);
  step.phase[p] = c;
  step.sequences = {c};
  step.busy_ns[p] = busy_ns;
  step.ideal_ns_attainable[p] = ideal_ns;
  return step;
}

TEST(Utilization, RatiosAreWorkOverPeakOverTime) {
  UtilizationMeter meter(cpu_like(), 100 << 20);
  meter.add_step(step_of(Phase::kDecode, counts(1), 8e6, 6e6), {.wall_ns = 9'000'000, .gap_ns = 1'000'000});
  const Ratios busy = meter.ratios(Phase::kDecode, TimeBasis::kBusy, PeakBasis::kAttainable);
  EXPECT_DOUBLE_EQ(*busy.mfu, (300e6 / 400e9 + 100e6 / 100e9) / 8e-3);
  EXPECT_DOUBLE_EQ(*busy.hfu, *busy.mfu);
  EXPECT_DOUBLE_EQ(*busy.mbu, 100e6 / 20e9 / 8e-3);
  EXPECT_DOUBLE_EQ(*busy.sol, 0.75);
  const Ratios wall = meter.ratios(Phase::kDecode, TimeBasis::kWall, PeakBasis::kAttainable);
  EXPECT_DOUBLE_EQ(*wall.mfu, *busy.mfu * 0.8) << "busy for 8 of 10 ms";
  const Roofline line = meter.roofline(Phase::kDecode);
  EXPECT_EQ(line.basis, PeakBasis::kAttainable);
  EXPECT_DOUBLE_EQ(*line.peak_flops_per_s, 400e6 / (300e6 / 400e9 + 100e6 / 100e9));
  EXPECT_DOUBLE_EQ(*line.intensity, 4);
  EXPECT_STREQ(line.bound_by, "memory");
}

TEST(Utilization, UnknownPeaksGiveNoRatio) {
  DevicePeaks peaks = cpu_like();
  peaks.compute[kF32] = {};
  UtilizationMeter meter(peaks, 100 << 20);
  meter.add_step(step_of(Phase::kDecode, counts(1), 8e6, 0), {.wall_ns = 10'000'000});
  const Ratios r = meter.ratios(Phase::kDecode, TimeBasis::kBusy, PeakBasis::kAttainable);
  EXPECT_FALSE(r.mfu);
  EXPECT_FALSE(r.sol);
  EXPECT_TRUE(r.mbu) << "bandwidth is known";
  EXPECT_FALSE(meter.ratios(Phase::kDecode, TimeBasis::kBusy, PeakBasis::kVendor).mbu);
  EXPECT_EQ(meter.roofline(Phase::kDecode).bound_by, nullptr);
  const Json phase = meter.phase_json(Phase::kDecode);
  EXPECT_TRUE(phase["mfu"].is_null());
  EXPECT_TRUE(phase["peak_basis"].is_null());
  EXPECT_TRUE(phase["bound_by"].is_null());
  EXPECT_DOUBLE_EQ(phase["flops_per_s"], 400e6 / 8e-3) << "absolute rates need no peak";
}

TEST(Utilization, VendorsPeakIsTheBasisWhereItIsKnown) {
  DevicePeaks peaks = cpu_like();
  peaks.compute[kInt8].vendor = 500e9;
  peaks.compute[kF32].vendor = 125e9;
  EXPECT_EQ(UtilizationMeter(peaks, 0).roofline(Phase::kDecode).basis, std::nullopt) << "nothing ran";
  UtilizationMeter meter(peaks, 0);
  meter.add_step(step_of(Phase::kDecode, counts(1), 8e6, 6e6), {.wall_ns = 10'000'000});
  EXPECT_EQ(meter.roofline(Phase::kDecode).basis, PeakBasis::kAttainable) << "no vendor bandwidth";
  peaks.bandwidth.vendor = 25e9;
  UtilizationMeter known(peaks, 0);
  known.add_step(step_of(Phase::kDecode, counts(1), 8e6, 6e6), {.wall_ns = 10'000'000});
  EXPECT_EQ(known.roofline(Phase::kDecode).basis, PeakBasis::kVendor);
  EXPECT_DOUBLE_EQ(known.phase_json(Phase::kDecode)["mbu"], 100e6 / 25e9 / 8e-3);
}

TEST(Utilization, MixedStepsSplitTimeAndKeepCountsExact) {
  StepCounts step;
  step.phase[kPrefill] = counts(30);
  step.phase[kDecode] = counts(2);
  step.busy_ns = {6e6, 2e6};
  step.ideal_ns_attainable = {3e6, 1e6};
  UtilizationMeter meter(cpu_like(), 100 << 20);
  meter.add_step(step, {.wall_ns = 10'000'000});
  EXPECT_EQ(meter.totals(Phase::kPrefill).counts, counts(30));
  EXPECT_EQ(meter.totals(Phase::kDecode).counts, counts(2));
  EXPECT_DOUBLE_EQ(meter.totals(Phase::kPrefill).wall_ns, 7.5e6);
  EXPECT_DOUBLE_EQ(meter.totals(Phase::kDecode).wall_ns, 2.5e6);
  EXPECT_EQ(meter.totals(Phase::kPrefill).steps, 1);
  EXPECT_EQ(meter.totals(Phase::kDecode).steps, 1);
}

TEST(Utilization, AStepInVainIsExecutedButNotUseful) {
  UtilizationMeter meter(cpu_like(), 100 << 20);
  for (int i = 0; i < 3; ++i)
    meter.add_step(step_of(Phase::kDecode, counts(1), 8e6, 6e6), {.wall_ns = 10'000'000});
  meter.reclassify_as_wasted(counts(1), Phase::kDecode, 1);
  const Json phase = meter.phase_json(Phase::kDecode);
  EXPECT_EQ(phase["steps"], 2);
  EXPECT_EQ(phase["tokens"], 2);
  EXPECT_EQ(phase["wasted_tokens"], 1);
  EXPECT_EQ(phase["flops"]["useful"], 800'000'000);
  EXPECT_EQ(phase["flops"]["executed"], 1'200'000'000);
  EXPECT_EQ(phase["bytes"]["min"], 200'000'000);
  EXPECT_EQ(phase["bytes"]["wasted"], 100'000'000);
  const Ratios r = meter.ratios(Phase::kDecode, TimeBasis::kBusy, PeakBasis::kAttainable);
  EXPECT_DOUBLE_EQ(*r.hfu, *r.mfu * 1.5);
}

TEST(Utilization, TakesAnEnginesRecords) {
  UtilizationMeter meter(cpu_like(), 100 << 20);
  const StepCounts step = step_of(Phase::kPrefill, counts(9), 8e6, 6e6);
  StepRecord record;
  record.counts = &step;
  record.wall_ns = 9'000'000;
  record.gap_ns = 1'000'000;
  meter.add_step(record);
  record.wasted_since[kPrefill] = counts(9);  // the first step's request was aborted
  meter.add_step(record);
  const PhaseTotals& totals = meter.totals(Phase::kPrefill);
  EXPECT_EQ(totals.counts.tokens, 9);
  EXPECT_EQ(totals.counts.wasted_tokens, 9);
  EXPECT_EQ(totals.counts.executed_flops(), 2 * totals.counts.useful_flops());
  EXPECT_EQ(totals.wall_ns, 20e6);
}

TEST(Utilization, PartsSumToTheirTotals) {
  UtilizationMeter meter(cpu_like(), 100 << 20);
  meter.add_step(step_of(Phase::kPrefill, counts(9), 8e6, 6e6), {.wall_ns = 10'000'000});
  const Json phase = meter.phase_json(Phase::kPrefill);
  const auto flops = [&](const char* key) { return phase["flops"][key].get<std::int64_t>(); };
  const auto bytes = [&](const char* key) { return phase["bytes"][key].get<std::int64_t>(); };
  EXPECT_EQ(flops("projections") + flops("attention") + flops("ffn") + flops("head"), flops("useful"));
  EXPECT_EQ(bytes("weights") + bytes("kv_read") + bytes("kv_write"), bytes("min"));
  std::int64_t by_dtype = 0;
  for (const auto& [name, value] : phase["flops"]["by_dtype"].items()) by_dtype += value.get<std::int64_t>();
  EXPECT_EQ(by_dtype, flops("useful"));
  EXPECT_DOUBLE_EQ(phase["mfu"],
                   phase["flops_per_s"].get<double>() / phase["mfu_peak_flops_per_s"].get<double>());
}

TEST(Utilization, BandwidthAbovePeakIsFlaggedByWhatMayExplainIt) {
  const StepCounts fast = step_of(Phase::kDecode, counts(1), 4e6, 3e6);  // 25 GB/s of 20
  UtilizationMeter small(cpu_like(), 8 << 20), large(cpu_like(), 100 << 20), calm(cpu_like(), 100 << 20);
  small.add_step(fast, {.wall_ns = 4'000'000});
  large.add_step(fast, {.wall_ns = 4'000'000});
  calm.add_step(step_of(Phase::kDecode, counts(1), 8e6, 6e6), {.wall_ns = 8'000'000});
  EXPECT_EQ(small.flags(), std::vector<std::string>{"cache_resident"});
  EXPECT_EQ(large.flags(), std::vector<std::string>{"stale_peak"});
  EXPECT_TRUE(calm.flags().empty());
  UtilizationMeter impossible(cpu_like(), 100 << 20);
  impossible.add_step(step_of(Phase::kPrefill, counts(1), 1e5, 1e5), {.wall_ns = 100'000});
  EXPECT_EQ(impossible.flags(), (std::vector<std::string>{"stale_peak", "above_compute_peak"}));
}

TEST(Utilization, JsonHasEveryKeyAndNullWhereNothingRan) {
  const UtilizationMeter meter(cpu_like(), 100 << 20);
  const Json json = meter.to_json({.wall_s = 1});
  for (const char* key : {"device", "flags", "wall_s", "ttft_s", "phases"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_TRUE(json["ttft_s"].is_null());
  EXPECT_EQ(json["device"]["threads"], 2);
  EXPECT_TRUE(json["device"]["peaks"]["compute"]["int8"]["vendor"].is_null());
  EXPECT_EQ(json["device"]["peaks"]["compute"]["int8"]["attainable"], 400e9);
  EXPECT_EQ(json["device"]["peaks"]["bandwidth"]["age_s"], 180);
  EXPECT_TRUE(json["device"]["peaks"]["compute"]["bf16"]["attainable"].is_null());
  for (const char* name : {"prefill", "decode"}) {
    const Json& phase = json["phases"][name];
    for (const char* key : {"steps", "tokens", "flops", "bytes", "mfu_peak_flops_per_s", "ratios", "busy_s",
                            "wall_s", "tokens_per_s", "flops_per_s", "bytes_per_s", "mfu", "mbu", "sol",
                            "intensity", "balance", "bound_by", "peak_basis"})
      EXPECT_TRUE(phase.contains(key)) << key;
    for (const char* key :
         {"useful", "executed", "projections", "attention", "ffn", "head", "other", "by_dtype"})
      EXPECT_TRUE(phase["flops"].contains(key)) << key;
    for (const char* key : {"min", "weights", "kv_read", "kv_write", "declared", "activations"})
      EXPECT_TRUE(phase["bytes"].contains(key)) << key;
    for (const char* time : {"busy", "wall"})
      for (const char* peak : {"vendor", "attainable"})
        for (const char* key : {"mfu", "hfu", "mbu", "sol"})
          EXPECT_TRUE(phase["ratios"][time][peak][key].is_null()) << time << " " << peak << " " << key;
    EXPECT_EQ(phase["steps"], 0);
    EXPECT_EQ(phase["flops"]["useful"], 0);
    EXPECT_TRUE(phase["tokens_per_s"].is_null());
  }
}

TEST(Utilization, ReportFitsATerminalAndNamesItsPeaks) {
  UtilizationMeter meter(cpu_like(), 100 << 20);
  meter.add_step(step_of(Phase::kPrefill, counts(1234), 8e6, 6e6), {.wall_ns = 10'000'000});
  meter.add_step(step_of(Phase::kDecode, counts(1), 8e6, 6e6), {.wall_ns = 10'000'000});
  const RunSummary run{.wall_s = 4.2, .ttft_s = 0.183, .prompt_tokens = 1234, .generated_tokens = 2};
  const std::string report = meter.report(run);
  RecordProperty("report", report);
  EXPECT_NE(report.find("1,234 prompt tokens, 2 generated in 4.20 s; first token after 183 ms\n"),
            std::string::npos)
      << report;
  EXPECT_NE(report.find("A CPU, 2 threads: fp32 100 GFLOP/s, int8 400 GOP/s, memory 20.0 GB/s."),
            std::string::npos)
      << report;
  EXPECT_NE(report.find("measured 3 min ago"), std::string::npos) << report;
  DevicePeaks fresh = cpu_like();
  fresh.bandwidth.age_s = 0.0;
  UtilizationMeter anew(fresh, 100 << 20);
  anew.add_step(step_of(Phase::kDecode, counts(1), 8e6, 6e6), {.wall_ns = 10'000'000});
  EXPECT_NE(anew.report(run).find("measured just now"), std::string::npos) << anew.report(run);
  std::size_t start = 0;
  for (std::size_t end; (end = report.find('\n', start)) != std::string::npos; start = end + 1)
    EXPECT_LE(end - start, 100u) << report;
  EXPECT_EQ(start, report.size()) << "every line ends";
  EXPECT_NE(meter.live_line(run).find("100 tok/s"), std::string::npos) << meter.live_line(run);
}

}  // namespace
}  // namespace redline
