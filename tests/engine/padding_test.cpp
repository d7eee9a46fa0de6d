#include "engine/meter/padding.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/engine.h"
#include "engine/meter/utilization.h"
#include "tests/engine/tiny_model.h"

namespace redline {
namespace {

constexpr std::size_t kDecode = static_cast<std::size_t>(Phase::kDecode);
constexpr std::size_t kAttention = static_cast<std::size_t>(Part::kAttention);

// The last of the steps that decode `batch` sequences of 9 tokens each.
StepCounts decode_step(std::int32_t batch) {
  StepCounts last;
  auto model = tiny_model(DType::kQ8_0, 1);
  Engine engine(model, {.max_context = 256}, [&](const StepRecord& step) {
    EXPECT_EQ(step.padding, Counts()) << "a CPU pads nothing";
    if (step.num_decode_tokens == batch && step.num_prefill_tokens == 0) last = *step.counts;
  });
  Request request;
  request.prompt = random_tokens(9, 1, 211);
  request.sampling.max_tokens = 2;
  request.n = batch;
  const auto stream = engine.submit(request);
  while (stream->next()) {
  }
  return last;
}

TEST(Padding, ARowHasTheProductsOfAnyOther) {
  const StepCounts five = decode_step(5), eight = decode_step(8);
  ASSERT_EQ(five.phase[kDecode].tokens, 5);
  ASSERT_EQ(eight.phase[kDecode].tokens, 8);
  const ComputeType attention =
      tiny_model(DType::kQ8_0, 1)->ops->compute_type(OpKind::kPagedAttention, DType::kBF16);
  const Counts padding = padding_of(3, five, attention);
  EXPECT_EQ(padding.wasted_tokens, 3);
  EXPECT_EQ(padding.useful_flops(), 0);
  std::int64_t products = 0, by_type = 0;
  for (std::size_t part = 0; part < kNumParts; ++part) {
    const std::int64_t more = eight.phase[kDecode].flops[part] - five.phase[kDecode].flops[part];
    EXPECT_EQ(padding.wasted_flops[part], part == kAttention ? 0 : more) << kPartNames[part];
    if (static_cast<Part>(part) != Part::kOther) products += padding.wasted_flops[part];
  }
  for (const std::int64_t flops : padding.wasted_flops_by_type) by_type += flops;
  EXPECT_EQ(by_type, products);
  EXPECT_GT(products, 0);
}

TEST(Padding, IsWasteOfItsOwnCause) {
  const StepCounts five = decode_step(5);
  UtilizationMeter meter({}, 0);
  StepRecord record;
  record.counts = &five;
  record.wall_ns = 1000;
  record.padding = padding_of(3, five, ComputeType::kF32);
  meter.add_step(record);
  const PhaseTotals& totals = meter.totals(Phase::kDecode);
  EXPECT_EQ(totals.counts.tokens, 5);
  EXPECT_EQ(totals.counts.wasted_tokens, 3);
  EXPECT_EQ(wasted_by(totals, WasteCause::kPadding).executed_flops(), record.padding.executed_flops());
  EXPECT_EQ(wasted_by(totals, WasteCause::kRecomputation), Counts());
  EXPECT_EQ(wasted_by(totals, WasteCause::kAborted), Counts());
}

}  // namespace
}  // namespace redline
