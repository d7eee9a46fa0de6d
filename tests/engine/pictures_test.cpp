#include "engine/meter/pictures.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/meter/svg.h"

namespace redline {
namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

// Every element that opens closes, no number is broken, nothing is loaded.
void expect_sound(const std::string& svg) {
  EXPECT_EQ(count(svg, "<svg"), 1u);
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
  for (const char* element : {"text", "title", "style"})
    EXPECT_EQ(count(svg, std::string("<") + element), count(svg, std::string("</") + element + ">"))
        << element;
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  EXPECT_EQ(svg.find("http://", svg.find("xmlns") + 30), std::string::npos) << "it loads nothing";
}

DevicePeaks device() {
  DevicePeaks device;
  device.device_name = "A <device> & more";
  device.compute[static_cast<std::size_t>(ComputeType::kInt8)].attainable = 4e11;
  device.compute[static_cast<std::size_t>(ComputeType::kF32)].attainable = 1e11;
  device.bandwidth.attainable = 2e10;
  return device;
}

std::vector<MeteredStep> steps() {
  return {{Phase::kPrefill, 0.2, 0.1, 30'000'000'000, 150'000'000, 0.75},
          {Phase::kDecode, 0.21, 0.01, 300'000'000, 100'000'000, 0.075},
          {Phase::kDecode, 0.22, 0.01, 300'000'000, 101'000'000, 0.075}};
}

TEST(Svg, LinearAxesHaveFourToEightStepsAndLogarithmicOnesWholeDecades) {
  for (const double largest : {0.013, 1.0, 1.01, 7.0, 8.0, 999.0, 123456.0}) {
    const SvgAxis axis = SvgAxis::linear(largest);
    EXPECT_GE(axis.marks.size(), 5u) << largest;
    EXPECT_LE(axis.marks.size(), 9u) << largest;
    EXPECT_GE(axis.end, largest);
    EXPECT_NEAR(axis.marks.back(), axis.end, 1e-9 * axis.end);
    EXPECT_DOUBLE_EQ(axis.at(axis.end), 1);
  }
  const SvgAxis axis = SvgAxis::log(0.3, 4000);
  EXPECT_DOUBLE_EQ(axis.begin, 0.1);
  EXPECT_DOUBLE_EQ(axis.end, 10000);
  EXPECT_EQ(axis.marks.size(), 6u);
  EXPECT_NEAR(axis.at(10), 0.4, 1e-12);
}

TEST(Pictures, ARooflineHasARoofForEachKnownPeakAndADotForEachStep) {
  const std::string svg = roofline_svg(device(), {find_hardware("h100"), find_hardware("a100")}, steps());
  expect_sound(svg);
  EXPECT_EQ(count(svg, "line roof\""), 2u);
  EXPECT_EQ(count(svg, "line other\""), 2u);
  EXPECT_EQ(count(svg, "<circle"), 3u + 2u) << "and two in the legend";
  EXPECT_NE(svg.find("A &lt;device&gt; &amp; more"), std::string::npos);
  EXPECT_NE(svg.find("prefill: 300 GFLOP/s at 200 FLOP/B"), std::string::npos);
  expect_sound(roofline_svg(DevicePeaks{}, {}, {}));
}

TEST(Pictures, AWaterfallsPartsFillTheirBarAndSayTheirTime) {
  Waterfall terms;
  terms[Term::kGap] = 1;
  terms[Term::kMemoryBoundPenalty] = 6;
  terms[Term::kKernelInefficiency] = -1;
  terms[Term::kIdealCompute] = 2;
  const auto shares = drawn_shares(terms);
  EXPECT_DOUBLE_EQ(shares[static_cast<std::size_t>(Term::kMemoryBoundPenalty)], 5.0 / 8);
  double sum = 0;
  for (const double share : shares) sum += share;
  EXPECT_DOUBLE_EQ(sum, 1);
  const std::string svg = waterfall_svg({{"tg128", terms}});
  expect_sound(svg);
  EXPECT_EQ(count(svg, "height=\"24\""), 3u);
  EXPECT_NE(svg.find("ideal compute: 2.00 s of 8.00 s, 25.0 %"), std::string::npos) << svg;
}

TEST(Pictures, MfuOverTimeHasAPointAStep) {
  const std::string svg = mfu_svg(steps());
  expect_sound(svg);
  EXPECT_EQ(count(svg, "<circle"), 3u + 2u);
  expect_sound(mfu_svg({}));
}

TEST(Pictures, AStepsPhasesAreSteps) {
  StepCounts step;
  Counts& decode = step.phase[static_cast<std::size_t>(Phase::kDecode)];
  decode.tokens = 2;
  decode.flops[0] = decode.flops_by_type[static_cast<std::size_t>(ComputeType::kInt8)] = 4'000'000;
  decode.weights = 1000;
  step.busy_ns[static_cast<std::size_t>(Phase::kDecode)] = 20'000;
  const auto found = metered_steps(step, 1.5, device().attainable());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].phase, Phase::kDecode);
  EXPECT_EQ(found[0].flops, 4'000'000);
  EXPECT_DOUBLE_EQ(found[0].mfu, 0.5);
}

TEST(Pictures, APageEscapesItsWordsAndMayRunNothing) {
  HtmlReport report;
  report.title = "a<b";
  report.table = {{"", "t/s"}, {"pp", "1 & 2"}};
  report.sections = {{"Why", {"x < y."}, mfu_svg(steps())}};
  const std::string html = report.html();
  EXPECT_EQ(html.find("a<b"), std::string::npos);
  EXPECT_NE(html.find("<td>1 &amp; 2</td>"), std::string::npos);
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
  EXPECT_EQ(html.find("<script"), std::string::npos);
}

}  // namespace
}  // namespace redline
