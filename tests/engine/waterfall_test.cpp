#include "engine/meter/waterfall.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kPrefill = static_cast<std::size_t>(Phase::kPrefill);
constexpr std::size_t kDecode = static_cast<std::size_t>(Phase::kDecode);
constexpr std::size_t kBF16 = static_cast<std::size_t>(ComputeType::kBF16);
constexpr double kPeak = 1e12, kBandwidth = 1e11;

DevicePeaks device() {
  DevicePeaks device;
  device.device_name = "A device";
  device.compute[kBF16].attainable = kPeak;
  device.bandwidth.attainable = kBandwidth;
  return device;
}

struct Operation {
  OpKind kind;
  double compute_ns, memory_ns, busy_ns;
};
constexpr Operation kProduct{OpKind::kLinear, 100, 400, 500};
constexpr Operation kAttention{OpKind::kPagedAttention, 300, 200, 350};
constexpr Operation kNorm{OpKind::kRmsNorm, 0, 10, 40};

// A step as the ledger would record it: `wasted` of its FLOPs in vain.
StepCounts step_of(Phase phase, const std::vector<Operation>& operations, double wasted = 0) {
  StepCounts step;
  const auto p = static_cast<std::size_t>(phase);
  for (const Operation& operation : operations) {
    const auto k = static_cast<std::size_t>(operation.kind);
    step.kind_calls[k] += 1;
    const double roofline_ns = std::max(operation.compute_ns, operation.memory_ns);
    KindTimes times;
    times.busy_ns = operation.busy_ns;
    times.compute_ns_attainable = operation.compute_ns;
    times.roofline_ns_attainable = roofline_ns;
    times.compute_ns_vendor = times.roofline_ns_vendor = std::numeric_limits<double>::quiet_NaN();
    step.kinds[p][k] += times;
    step.busy_ns[p] += operation.busy_ns;
    step.ideal_ns_attainable[p] += roofline_ns;
    const auto flops = static_cast<std::int64_t>(operation.compute_ns * 1e-9 * kPeak);
    const auto in_vain = static_cast<std::int64_t>(wasted * static_cast<double>(flops));
    step.phase[p].flops_by_type[kBF16] += flops - in_vain;
    step.phase[p].wasted_flops_by_type[kBF16] += in_vain;
    step.phase[p].flops[static_cast<std::size_t>(Part::kFfn)] += flops - in_vain;
  }
  step.phase[p].tokens = 1;
  return step;
}

void add(UtilizationMeter& meter, const StepCounts& step, double wall_ns, double gap_ns = 0) {
  meter.add_step(
      step, {.wall_ns = static_cast<std::int64_t>(wall_ns), .gap_ns = static_cast<std::int64_t>(gap_ns)});
}

WindowWaterfall waterfall(const UtilizationMeter& meter, double wall_s, double idle_s = 0,
                          std::optional<double> clock = std::nullopt) {
  return waterfall_of(meter.totals(), meter.peaks(), wall_s, idle_s, clock).value();
}

TEST(Waterfall, TermsAreThoseOfTheDefinition) {
  UtilizationMeter meter(device(), 0);
  add(meter, step_of(Phase::kDecode, {kProduct, kAttention, kNorm}), 1000, 110);
  const WindowWaterfall window = waterfall(meter, 2000e-9, 500e-9);
  EXPECT_EQ(window.basis, PeakBasis::kAttainable);
  const Waterfall& decode = window.phases[kDecode];
  EXPECT_NEAR(decode[Term::kGap], 220e-9, 1e-18) << "110 before the step, 110 within it";
  EXPECT_DOUBLE_EQ(decode[Term::kIdealCompute], 400e-9);
  EXPECT_NEAR(decode[Term::kMemoryBoundPenalty], 310e-9, 1e-18) << "300 of the product, 10 of the norm";
  EXPECT_NEAR(decode[Term::kKernelInefficiency], (100 + 50 + 30) * 1e-9, 1e-18);
  EXPECT_EQ(decode[Term::kIdle], 0);
  EXPECT_DOUBLE_EQ(window.whole[Term::kIdle], 500e-9);
  EXPECT_NEAR(window.whole[Term::kGap], (220 + 390) * 1e-9, 1e-18) << "nothing else explains 390 ns";
  EXPECT_EQ(window.whole.largest_loss(), Term::kGap);
  EXPECT_FALSE(window.whole.clock_is_exposed);
}

TEST(Waterfall, IdealComputeByWallIsTheMfuThatTheMeterPublishes) {
  UtilizationMeter meter(device(), 0);
  add(meter, step_of(Phase::kPrefill, {kAttention, kNorm}), 700, 40);
  add(meter, step_of(Phase::kDecode, {kProduct, kAttention}, 0.25), 1000, 123);
  const WindowWaterfall window = waterfall(meter, 4e-6);
  double ideal_s = 0;
  for (const Phase phase : kAllPhases) {
    const Waterfall& terms = window.phases[static_cast<std::size_t>(phase)];
    EXPECT_DOUBLE_EQ(terms.mfu(), *meter.ratios(phase, TimeBasis::kWall, PeakBasis::kAttainable).mfu);
    ideal_s += *meter.compute_seconds(phase, PeakBasis::kAttainable);
  }
  EXPECT_DOUBLE_EQ(window.whole.mfu(), ideal_s / 4e-6);
}

TEST(Waterfall, WasteIsSplitByItsCausesWhoseWindowsAreTheirOwn) {
  UtilizationMeter meter(device(), 0);
  const StepCounts again = step_of(Phase::kPrefill, {kProduct}, 1);  // 100 ns of FLOPs
  const StepCounts useful = step_of(Phase::kPrefill, {kProduct});
  for (const StepCounts& step : {again, useful, useful, useful}) add(meter, step, 500);
  meter.reclassify_as_wasted(useful.phase[0], Phase::kPrefill);
  const Waterfall window = waterfall(meter, 2000e-9).whole;
  EXPECT_DOUBLE_EQ(window[Term::kWaste], 1000e-9) << "half of the FLOPs";
  EXPECT_DOUBLE_EQ(window.waste_seconds[static_cast<std::size_t>(WasteCause::kRecomputation)], 500e-9);
  EXPECT_DOUBLE_EQ(window.waste_seconds[static_cast<std::size_t>(WasteCause::kAborted)], 500e-9);
  EXPECT_EQ(window.waste_seconds[static_cast<std::size_t>(WasteCause::kPadding)], 0);

  // What was computed again, and was useful in part, is aborted: only that part is the abort's.
  const PhaseTotalsArray before = meter.totals();
  const StepCounts half = step_of(Phase::kPrefill, {kProduct}, 0.5);
  add(meter, half, 500);
  meter.reclassify_as_wasted(half.phase[0], Phase::kPrefill);
  PhaseTotalsArray later = meter.totals();
  later[0] -= before[0];
  const auto flops = [&](WasteCause cause) { return wasted_by(later[0], cause).wasted_flops_by_type[kBF16]; };
  EXPECT_EQ(flops(WasteCause::kRecomputation), half.phase[0].wasted_flops_by_type[kBF16]);
  EXPECT_EQ(flops(WasteCause::kAborted), half.phase[0].flops_by_type[kBF16]);
  EXPECT_EQ(wasted_by(later[0], WasteCause::kAborted).wasted_tokens, 1);
}

// Whatever ran, in whatever order, with negative inefficiency too: everything sums, both ways.
TEST(Waterfall, TermsSumToTheWallPhasesToTheWholeAndKindsToTheirPhases) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> ns(1, 1000), fraction(0, 1);
  for (int round = 0; round < 200; ++round) {
    UtilizationMeter meter(device(), 0);
    double wall_ns = 0;
    for (int i = 0; i < 20; ++i) {
      std::vector<Operation> operations;
      double busy_ns = 0;
      for (const OpKind kind :
           {OpKind::kLinear, OpKind::kPagedAttention, OpKind::kAllReduce, OpKind::kEmbed}) {
        operations.push_back({kind, std::floor(ns(random)), ns(random), ns(random)});
        if (kind == OpKind::kAllReduce) operations.back().compute_ns = operations.back().memory_ns = 0;
        busy_ns += operations.back().busy_ns;
      }
      const double step_ns = std::ceil(busy_ns + ns(random)), gap_ns = std::floor(ns(random));
      add(meter, step_of(i % 3 == 0 ? Phase::kPrefill : Phase::kDecode, operations, fraction(random)),
          step_ns, gap_ns);
      wall_ns += step_ns + gap_ns;
    }
    const double idle_s = ns(random) * 1e-9, wall_s = wall_ns * 1e-9 + idle_s + ns(random) * 1e-9;
    const std::optional<double> clock =
        round % 2 == 0 ? std::nullopt : std::optional(0.5 + fraction(random) / 2);
    const WindowWaterfall window = waterfall(meter, wall_s, idle_s, clock);
    EXPECT_NEAR(window.whole.wall_s(), wall_s, 1e-12 * wall_s);
    for (std::size_t term = 0; term < kNumTerms; ++term) {
      if (term == static_cast<std::size_t>(Term::kIdle) || term == static_cast<std::size_t>(Term::kGap))
        continue;
      EXPECT_NEAR(window.whole.seconds[term],
                  window.phases[kPrefill].seconds[term] + window.phases[kDecode].seconds[term],
                  1e-12 * wall_s);
      for (std::size_t p = 0; p < kNumPhases; ++p) {
        double kinds = 0;
        for (const KindWaterfall& kind : window.kinds[p]) kinds += kind.terms.seconds[term];
        EXPECT_NEAR(kinds, window.phases[p].seconds[term], 1e-9 * wall_s)
            << kPhaseNames[p] << " " << kTermNames[term];
      }
    }
    for (const Waterfall& phase : window.phases)
      for (const Term term : {Term::kGap, Term::kExposedCommunication, Term::kWaste,
                              Term::kMemoryBoundPenalty, Term::kClockLoss, Term::kIdealCompute})
        EXPECT_GE(phase[term], 0) << kTermNames[static_cast<std::size_t>(term)];
  }
}

TEST(Waterfall, WasteTakesItsShareOfTheDevicesTime) {
  UtilizationMeter meter(device(), 0);
  add(meter, step_of(Phase::kPrefill, {kProduct}, 0.4), 500);
  const Waterfall half = waterfall(meter, 500e-9).phases[kPrefill];
  EXPECT_DOUBLE_EQ(half[Term::kWaste], 200e-9);
  EXPECT_DOUBLE_EQ(half[Term::kIdealCompute], 60e-9);
  EXPECT_DOUBLE_EQ(half[Term::kMemoryBoundPenalty], 180e-9);
  const Counts useful = meter.totals(Phase::kPrefill).counts;
  meter.reclassify_as_wasted(useful, Phase::kPrefill, 1);
  const Waterfall all = waterfall(meter, 500e-9).phases[kPrefill];
  EXPECT_GT(all[Term::kWaste], 0.99 * 500e-9) << "its request was aborted";
  EXPECT_NEAR(all.mfu(), 0, 1e-12);
}

TEST(Waterfall, ASlowClockExplainsComputeTimeAndNotThatOfMemory) {
  UtilizationMeter meter(device(), 0);
  add(meter, step_of(Phase::kPrefill, {kProduct, kAttention}), 850);
  const Waterfall terms = waterfall(meter, 850e-9, 0, 0.9).phases[kPrefill];
  EXPECT_TRUE(terms.clock_is_exposed);
  EXPECT_NEAR(terms[Term::kClockLoss], (300 / 0.9 - 300) * 1e-9, 1e-18) << "the product waits for memory";
  EXPECT_NEAR(terms[Term::kKernelInefficiency], (100 + 350 - 300 / 0.9) * 1e-9, 1e-18);
}

TEST(Waterfall, FasterThanTheRooflineReadsBelowZeroAndStillSums) {
  UtilizationMeter meter(device(), 0);
  add(meter, step_of(Phase::kDecode, {{OpKind::kLinear, 100, 400, 300}}), 310);
  const WindowWaterfall window = waterfall(meter, 310e-9);
  EXPECT_NEAR(window.whole[Term::kKernelInefficiency], -100e-9, 1e-18);
  EXPECT_NEAR(window.whole.wall_s(), 310e-9, 1e-18);
  const std::string bar = report(window).substr(0, report(window).find('\n'));
  EXPECT_EQ(bar.size(), 74u) << bar;
  EXPECT_EQ(std::count(bar.begin(), bar.end(), 'k'), 0) << bar;
  EXPECT_NEAR(static_cast<double>(std::count(bar.begin(), bar.end(), 'm')), 72.0 * 200 / 310, 1) << bar;
}

TEST(Waterfall, TheVendorsPeaksAreTheBasisWhereKnownAndNoneGiveNoWaterfall) {
  DevicePeaks published = device();
  published.compute[kBF16].vendor = 2 * kPeak;
  published.bandwidth.vendor = kBandwidth;
  StepCounts step = step_of(Phase::kDecode, {kProduct});
  step.ideal_ns_vendor[kDecode] = 400;
  UtilizationMeter known(published, 0), unknown(DevicePeaks{}, 0);
  add(known, step, 600);
  EXPECT_EQ(waterfall(known, 600e-9).basis, PeakBasis::kVendor);
  EXPECT_DOUBLE_EQ(waterfall(known, 600e-9).whole[Term::kIdealCompute], 50e-9);
  add(unknown, step, 600);
  EXPECT_FALSE(waterfall_of(unknown.totals(), unknown.peaks(), 600e-9));
}

TEST(Waterfall, JsonAndTextNameTheSameTermsAndSayWhatNoSensorShows) {
  UtilizationMeter meter(device(), 0);
  add(meter, step_of(Phase::kPrefill, {kAttention}), 700, 40);
  add(meter, step_of(Phase::kDecode, {kProduct, kNorm}, 0.25), 1000, 123);
  const WindowWaterfall window = waterfall(meter, 4e-6, 2e-6);
  const Json json = to_json(window);
  const std::string text = report(window);
  double sum = 0;
  for (const char* name : kTermNames) {
    std::string words = name;
    std::ranges::replace(words, '_', ' ');
    EXPECT_NE(text.find(words), std::string::npos) << words << " in\n" << text;
    if (json["terms_s"][name].is_number()) sum += json["terms_s"][name].get<double>();
  }
  EXPECT_TRUE(json["terms_s"]["clock_loss"].is_null());
  EXPECT_EQ(json["not_exposed"], Json::array({"clock_loss"}));
  EXPECT_NE(text.find("not exposed"), std::string::npos) << text;
  EXPECT_NEAR(sum, 4e-6, 1e-15);
  EXPECT_DOUBLE_EQ(json["mfu"], window.whole.mfu());
  EXPECT_EQ(json["largest_loss"], "idle");
  EXPECT_EQ(json["phases"]["decode"]["kinds"][0]["kind"], "linear") << "the longest first";
  EXPECT_EQ(json["phases"]["decode"]["kinds"].size(), 2u);
  std::size_t start = 0;
  for (std::size_t end; (end = text.find('\n', start)) != std::string::npos; start = end + 1)
    EXPECT_LE(end - start, 100u) << text;
  RecordProperty("report", text);
}

}  // namespace
}  // namespace redline
