// Diagnoses and their counterfactuals, on a device that takes exactly what the roofline says, by its
// efficiencies.
#include "engine/meter/diagnosis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "tests/engine/estimated_llama.h"

namespace redline {
namespace {

constexpr auto kPrefill = static_cast<std::size_t>(Phase::kPrefill);
constexpr auto kDecode = static_cast<std::size_t>(Phase::kDecode);
constexpr double kPeak = 2e12, kAttentionPeak = 1e12, kBandwidth = 5e10;

DevicePeaks device() {
  DevicePeaks device;
  device.device_name = "A device";
  device.compute[static_cast<std::size_t>(ComputeType::kBF16)].attainable = kPeak;
  device.compute[static_cast<std::size_t>(ComputeType::kF32)].attainable = kAttentionPeak;
  device.bandwidth.attainable = kBandwidth;
  device.llc_bytes = 32 << 20;
  return device;
}

DiagnosedModel model(DType weights = DType::kBF16, DType kv = DType::kBF16) {
  DiagnosedModel m{.config = small_llama(),
                   .weights = stored_weights(small_llama(), weights),
                   .kv_dtype = kv,
                   .compute_of = [](OpKind kind, DType) {
                     return kind == OpKind::kPagedAttention ? ComputeType::kF32 : ComputeType::kBF16;
                   }};
  m.kv_types = {DType::kQ8_0};
  m.packed_bytes = m.weights.bytes();
  return m;
}

/// Takes the roofline's time by its efficiencies, some for every step and row, and some between steps.
struct FakeDevice {
  double compute = 0.8, memory = 0.6, attention_compute = 0.5, attention_memory = 0.4;
  double step_s = 20e-6, row_s = 3e-6, gap_s = 0;
  bool times_operations = true;
  double noise = 0;
  std::mt19937 random{};

  double products_s(const Work& work) const {
    return std::max(static_cast<double>(work.flops() - work.attention) / kPeak / compute,
                    static_cast<double>(work.weights) / kBandwidth / memory);
  }
  double attention_s(const Work& work) const {
    return std::max(static_cast<double>(work.attention) / kAttentionPeak / attention_compute,
                    static_cast<double>(work.kv_read + work.kv_write) / kBandwidth / attention_memory);
  }
  double step_s_of(const StepShape& shape, const DiagnosedModel& m) const {
    const Work work = work_of(shape, m);
    return products_s(work) + attention_s(work) + step_s + row_s * static_cast<double>(shape.rows()) + gap_s;
  }
  static Work work_of(const StepShape& shape, const DiagnosedModel& m) {
    return m.estimate().step(std::vector<SequenceShape>(static_cast<std::size_t>(shape.batch),
                                                        SequenceShape{shape.depth, shape.num_new, 1}));
  }

  /// What the meter would hold after `steps` of them.
  void run(UtilizationMeter& meter, const StepShape& shape, const DiagnosedModel& m, int steps) {
    const auto p = static_cast<std::size_t>(shape.phase);
    std::uniform_real_distribution<double> around(1 - noise, 1 + noise);
    const Work work = work_of(shape, m);
    for (int i = 0; i < steps; ++i) {
      StepCounts step;
      Counts& c = step.phase[p];
      c.tokens = shape.rows();
      c.flops[static_cast<std::size_t>(Part::kProjections)] = work.projections;
      c.flops[static_cast<std::size_t>(Part::kAttention)] = work.attention;
      c.flops[static_cast<std::size_t>(Part::kFfn)] = work.ffn;
      c.flops[static_cast<std::size_t>(Part::kHead)] = work.head;
      c.flops_by_type = work.flops_by_type;
      c.weights = work.weights;
      c.kv_read = c.kv_read_logical = work.kv_read;
      c.kv_write = work.kv_write;
      const double slow = around(random);
      const auto add = [&](OpKind kind, double seconds) {
        const auto k = static_cast<std::size_t>(kind);
        step.busy_ns[p] += seconds * slow * 1e9;
        step.kind_calls[k] = 1;
        if (times_operations) step.kinds[p][k].busy_ns = seconds * slow * 1e9;
      };
      add(OpKind::kLinear, products_s(work));
      add(OpKind::kPagedAttention, attention_s(work));
      add(OpKind::kRmsNorm, step_s + row_s * static_cast<double>(shape.rows()));
      step.ideal_ns_attainable[p] = 1e9 * verdict(work, meter.peaks().attainable())->time_s();
      const double wall_ns = step.busy_ns[p] + gap_s * 1e9;
      meter.add_step(step, {.wall_ns = static_cast<std::int64_t>(wall_ns), .gap_ns = 0});
    }
  }
};

constexpr StepShape kShort{.phase = Phase::kDecode, .batch = 1, .num_new = 1, .depth = 100};
constexpr StepShape kPrompt{.phase = Phase::kPrefill, .batch = 1, .num_new = 512, .depth = 0};

// Shapes unlike those that ran, on other weights and caches, with another gap.
TEST(StepModel, PredictsEveryOtherStepOfADeviceThatKeepsItsEfficiencies) {
  FakeDevice fake;
  UtilizationMeter meter(device(), 0);
  fake.run(meter, kPrompt, model(), 3);
  fake.run(meter, kShort, model(), 10);
  const StepModel steps(meter.totals(), model().estimate(), meter.peaks().attainable());
  for (const DType weights : {DType::kBF16, DType::kQ8_0, DType::kQ4_0})
    for (const DType kv : {DType::kBF16, DType::kQ8_0})
      for (const std::int64_t batch : {1, 8, 200})
        for (const std::int64_t depth : {100, 5000}) {
          const DiagnosedModel changed = model(weights, kv);
          const StepShape shape{Phase::kDecode, batch, 1, depth};
          const auto step = steps.predict(shape, changed.estimate());
          ASSERT_TRUE(step);
          EXPECT_FALSE(step->at_least);
          EXPECT_NEAR(step->busy_s / fake.step_s_of(shape, changed), 1, 1e-9)
              << traits(weights).name << " " << traits(kv).name << " batch " << batch << " depth " << depth;
        }
  for (const std::int64_t tokens : {16, 2048}) {
    const StepShape shape{Phase::kPrefill, 1, tokens, 300};
    EXPECT_NEAR(steps.predict(shape, model().estimate())->busy_s / fake.step_s_of(shape, model()), 1, 1e-9);
  }
}

TEST(StepModel, NoiseOfATenthMovesPredictionsByLess) {
  const std::uint32_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  FakeDevice fake{.noise = 0.1, .random = std::mt19937(seed)};
  UtilizationMeter meter(device(), 0);
  fake.run(meter, kPrompt, model(), 50);
  fake.run(meter, kShort, model(), 200);
  const StepModel steps(meter.totals(), model().estimate(), meter.peaks().attainable());
  for (const std::int64_t batch : {2, 8, 64}) {
    const StepShape shape{Phase::kDecode, batch, 1, 700};
    EXPECT_NEAR(steps.predict(shape, model().estimate())->busy_s / fake.step_s_of(shape, model()), 1, 0.05);
  }
}

TEST(StepModel, ABoundThatNoPhaseShowedIsSaidToBeOne) {
  FakeDevice fake;
  UtilizationMeter meter(device(), 0);
  fake.run(meter, kShort, model(), 10);  // bound by memory: nothing is known of compute
  const StepModel steps(meter.totals(), model().estimate(), meter.peaks().attainable());
  StepShape wide = kShort;
  EXPECT_FALSE(steps.predict(wide, model().estimate())->at_least);
  wide.batch = 2;
  EXPECT_TRUE(steps.predict(wide, model().estimate())->at_least)
      << "as far as is known, compute took nearly as long as memory";
  StepShape shallow = kShort;
  shallow.depth = 50;
  EXPECT_FALSE(steps.predict(shallow, model().estimate())->at_least) << "compute does less than it has shown";
  wide.batch = 500;
  const PredictedStep step = *steps.predict(wide, model().estimate());
  EXPECT_TRUE(step.at_least);
  EXPECT_LT(step.busy_s, fake.step_s_of(wide, model()));
  EXPECT_FALSE(steps.predict(kPrompt, model().estimate())) << "it did not run";
}

TEST(StepModel, WithoutTimesOfOperationsTheStepIsOneProduct) {
  FakeDevice fake{.step_s = 0, .row_s = 0, .times_operations = false};
  fake.attention_memory = fake.memory;
  UtilizationMeter meter(device(), 0);
  fake.run(meter, kShort, model(), 10);
  const StepModel steps(meter.totals(), model().estimate(), meter.peaks().attainable());
  const StepShape deep{Phase::kDecode, 1, 1, 5000};
  EXPECT_NEAR(steps.predict(deep, model().estimate())->busy_s / fake.step_s_of(deep, model()), 1, 0.02)
      << "all of it is memory's, but for attention's FLOPs";
}

TEST(StepModel, MeanStepIsTheOneThatRan) {
  FakeDevice fake;
  for (const StepShape& shape : {kShort, kPrompt, StepShape{Phase::kDecode, 7, 1, 3001}}) {
    UtilizationMeter meter(device(), 0);
    fake.run(meter, shape, model(), 4);
    const StepShape found = *mean_step(meter.totals(shape.phase), shape.phase, model().estimate());
    EXPECT_EQ(found.batch, shape.batch);
    EXPECT_EQ(found.num_new, shape.num_new);
    EXPECT_EQ(found.depth, shape.depth);
  }
  EXPECT_FALSE(mean_step({}, Phase::kDecode, model().estimate()));
}

double speedup(const std::vector<Counterfactual>& found, const std::string& change) {
  const auto at = std::ranges::find(found, change, &Counterfactual::change);
  return at == found.end() ? 0 : at->speedup;
}

TEST(Diagnosis, CounterfactualsAreWhatTheDeviceThenDoes) {
  FakeDevice fake{.gap_s = 400e-6};
  const StepShape deep{Phase::kDecode, 2, 1, 1000};
  UtilizationMeter meter(device(), 0);
  fake.run(meter, kPrompt, model(), 3);
  fake.run(meter, deep, model(), 10);
  const StepModel steps(meter.totals(), model().estimate(), meter.peaks().attainable());
  const auto found = counterfactuals(steps, deep, model());
  const double now_s = fake.step_s_of(deep, model());
  StepShape wide = deep, shallow = deep;
  wide.batch = 16;
  shallow.depth = 500;
  FakeDevice prompt = fake;
  prompt.gap_s = 0;
  constexpr double kNanosecond = 1e-5;  // of some 5 ms: wall times are whole nanoseconds
  EXPECT_NEAR(speedup(found, "batch 16"), 8 * now_s / fake.step_s_of(wide, model()), kNanosecond);
  EXPECT_NEAR(speedup(found, "q4_0 weights"), now_s / fake.step_s_of(deep, model(DType::kQ4_0)), kNanosecond);
  EXPECT_NEAR(speedup(found, "q8_0 cache"), now_s / fake.step_s_of(deep, model(DType::kBF16, DType::kQ8_0)),
              kNanosecond);
  for (const Counterfactual& each : found)
    EXPECT_EQ(each.at_most, each.change == "q8_0 cache") << each.change;
  EXPECT_NEAR(speedup(found, "half the context"), now_s / fake.step_s_of(shallow, model()), kNanosecond);
  EXPECT_NEAR(speedup(found, "no gap"), now_s / prompt.step_s_of(deep, model()), kNanosecond);
  FakeDevice perfect = fake;
  perfect.compute = perfect.memory = perfect.attention_compute = perfect.attention_memory = 1;
  EXPECT_NEAR(speedup(found, "kernels at their roofline"), now_s / perfect.step_s_of(deep, model()),
              kNanosecond);
}

std::vector<Diagnosis> diagnoses(FakeDevice fake, const std::vector<StepShape>& shapes,
                                 const DiagnosedModel& m = model()) {
  UtilizationMeter meter(device(), 0);
  double wall_s = 0;
  for (const StepShape& shape : shapes) fake.run(meter, shape, m, 10);
  for (const PhaseTotals& totals : meter.totals()) wall_s += totals.wall_ns * 1e-9;
  return diagnose(meter.totals(), *waterfall_of(meter.totals(), meter.peaks(), wall_s), meter.peaks(), m);
}

TEST(Diagnosis, NamesWhatBoundsEachPhase) {
  const FakeDevice good{.compute = 0.9,
                        .memory = 0.9,
                        .attention_compute = 0.9,
                        .attention_memory = 0.9,
                        .step_s = 0,
                        .row_s = 0};
  const auto both = diagnoses(good, {kPrompt, kShort});
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[kPrefill].cause, Cause::kCompute);
  EXPECT_NEAR(both[kPrefill].share, 0.9, 1e-6);
  EXPECT_EQ(both[kDecode].cause, Cause::kWeightReads);
  EXPECT_NEAR(both[kDecode].share, 0.9, 0.001) << "of the bandwidth";
  EXPECT_GT(both[kDecode].would_give.size(), 3u);
  const std::string sentence = both[kDecode].sentence();
  std::size_t num_said = 0;
  for (auto at = sentence.find(" would give "); at != std::string::npos;
       at = sentence.find(" would give ", at + 1))
    ++num_said;
  EXPECT_EQ(num_said, 3u) << sentence;
  EXPECT_EQ(diagnoses(good, {{Phase::kDecode, 8, 1, 20000}})[0].cause, Cause::kKvReads);
  FakeDevice waiting = good, bad = good;
  waiting.gap_s = 1;
  bad.memory = bad.attention_memory = 0.2;
  EXPECT_EQ(diagnoses(waiting, {kShort})[0].cause, Cause::kGap);
  EXPECT_EQ(diagnoses(bad, {kShort})[0].cause, Cause::kKernels);
  EXPECT_NEAR(diagnoses(bad, {kShort})[0].share, 0.2, 0.01);
}

TEST(Diagnosis, SaysItInOneSentenceWithItsNumbers) {
  Diagnosis diagnosis{.step = kShort,
                      .cause = Cause::kWeightReads,
                      .share = 0.91,
                      .would_give = {{"batch 8", 7.1, false}, {"q4_0 weights", 1.83, true}}};
  EXPECT_EQ(
      diagnosis.sentence(),
      "decode at batch 1 is bound by weight reads (91.0 % of the bandwidth floor); batch 8 would give 7.1x, "
      "q4_0 weights would give at most 1.8x");
  EXPECT_EQ(to_json(diagnosis)["cause"], "weight_reads");
  EXPECT_EQ(to_json(diagnosis)["would_give"][1]["at_most"], true);
  diagnosis.step.depth = 4096;
  EXPECT_EQ(diagnosis.sentence().rfind("decode at batch 1, 4,096 tokens deep, is bound", 0), 0u);
}

TEST(Diagnosis, NotesWhatTilesDoNotDivideWhatTheCacheHoldsAndALowClock) {
  DiagnosedModel m = model();
  m.packed_bytes = std::int64_t{33} << 20;
  EXPECT_TRUE(notes(m, device()).empty());
  EXPECT_EQ(notes(m, device(), 0.8).size(), 1u);
  m.packed_bytes = std::int64_t{31} << 20;
  m.config.vocab_size = 32004;  // a multiple of 4
  const auto found = notes(m, device());
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0], "vocabulary 32,004 is no multiple of 8, the tile of bf16 arithmetic");
  EXPECT_EQ(found[1], "the last-level cache (33.6 MB) holds the weights (32.5 MB): bandwidth is the cache's");
  m.compute_of = [](OpKind, DType) { return ComputeType::kInt8; };
  m.config.vocab_size = 32008;
  EXPECT_EQ(notes(m, device())[0], "vocabulary 32,008 is no multiple of 16, the tile of int8 arithmetic");
  m.compute_of = [](OpKind, DType) { return ComputeType::kF32; };
  EXPECT_EQ(notes(m, device()).size(), 1u) << "32-bit arithmetic has no such tile";
}

}  // namespace
}  // namespace redline
