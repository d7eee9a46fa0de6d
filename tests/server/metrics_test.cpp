#include "server/metrics.h"

#include <gtest/gtest.h>

#include <string>

namespace redline::server {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

TEST(Histogram, ValuesOnABoundBelongToTheRangeThatItEnds) {
  const double bounds[] = {1, 2};
  Histogram histogram(bounds);
  for (const double value : {0.5, 1.0, 1.5, 2.0, 2.5, 100.0}) histogram.observe(value);
  EXPECT_EQ(std::vector(histogram.counts().begin(), histogram.counts().end()),
            (std::vector<std::int64_t>{2, 2, 2}));
  EXPECT_DOUBLE_EQ(histogram.sum(), 107.5);
  EXPECT_EQ(histogram.count(), 6);
}

TEST(MetricsPage, AHistogramIsCumulativeAndAnAliasRepeatsItWithItsLabels) {
  const double bounds[] = {0.1, 2};
  Histogram histogram(bounds);
  histogram.observe(1);
  histogram.observe(3);
  const MetricsPage::Alias aliases[] = {{"a_seconds", "b:seconds"}};
  MetricsPage page(aliases, "m=\"x\"");
  page.histogram("a_seconds", "Times.", histogram);
  EXPECT_EQ(
      std::move(page).text(),
      "# HELP a_seconds Times.\n# TYPE a_seconds histogram\n"
      "a_seconds_bucket{le=\"0.1\"} 0\na_seconds_bucket{le=\"2\"} 1\na_seconds_bucket{le=\"+Inf\"} 2\n"
      "a_seconds_sum 4\na_seconds_count 2\n"
      "# HELP b:seconds Times.\n# TYPE b:seconds histogram\n"
      "b:seconds_bucket{m=\"x\",le=\"0.1\"} 0\nb:seconds_bucket{m=\"x\",le=\"2\"} 1\n"
      "b:seconds_bucket{m=\"x\",le=\"+Inf\"} 2\nb:seconds_sum{m=\"x\"} 4\nb:seconds_count{m=\"x\"} 2\n");
}

TEST(MetricsPage, LabelsAreEscaped) {
  EXPECT_EQ(label_text("name", "a\"b\\c\nd"), "name=\"a\\\"b\\\\c\\nd\"");
}

class MetricsText : public testing::Test {
 protected:
  static DevicePeaks known_peaks() {
    DevicePeaks peaks;
    peaks.device_name = "A device";
    peaks.compute[0].attainable = 1e9;
    peaks.bandwidth.attainable = 1e8;
    return peaks;
  }
  void step() {
    StepCounts counts;
    counts.phase[1].tokens = 1;
    counts.phase[1].flops[0] = counts.phase[1].flops_by_type[0] = 100'000'000;  // 0.1 s
    counts.phase[1].weights = 20'000'000;                                       // 0.2 s
    counts.busy_ns[1] = 0.5e9;
    counts.ideal_ns_attainable[1] = 0.2e9;
    StepRecord record;
    record.counts = &counts;
    record.start_ns = now_ns_;
    record.wall_ns = kSecond;
    record.num_decode_tokens = 1;
    meter_.add_step(record);
    now_ns_ += kSecond;
  }
  /// The value of the sample `name`, labels included; nothing where there is none.
  std::string value(const std::string& name, bool vllm_alias = false) {
    const std::string text = "\n" + metrics_text({"1", "my model", "A device", 0, 0, 0, vllm_alias}, meter_,
                                                 meter_.read(now_ns_, false), answers_, stats_, health_);
    const auto at = text.find("\n" + name + " ");
    if (at == std::string::npos) return "";
    const auto begin = at + name.size() + 2;
    return text.substr(begin, text.find('\n', begin) - begin);
  }

  std::int64_t now_ns_ = 5 * kSecond;
  LiveMeter meter_{known_peaks(), 0, now_ns_};
  AnswerTotals answers_;
  EngineStats stats_;
  DeviceHealth health_;
};

TEST_F(MetricsText, RatiosAreOverBusyTimeAndOverTheWholeWindow) {
  step();
  now_ns_ += 3 * kSecond;
  const std::string labels = ",peak=\"attainable\"}";
  EXPECT_EQ(value("redline_mfu{phase=\"decode\",basis=\"busy\"" + labels), "0.2");
  EXPECT_EQ(value("redline_mfu{phase=\"decode\",basis=\"wall\"" + labels), "0.025");
  EXPECT_EQ(value("redline_mbu{phase=\"decode\",basis=\"busy\"" + labels), "0.4");
  EXPECT_EQ(value("redline_sol{phase=\"decode\",basis=\"wall\"" + labels), "0.05");
  EXPECT_EQ(value("redline_arithmetic_intensity{phase=\"decode\"}"), "5");
  EXPECT_EQ(value("redline_compute_seconds_total{phase=\"decode\",peak=\"attainable\"}"), "0.1");
}

TEST_F(MetricsText, WhereNothingRanWallIsZeroAndBusyNotANumber) {
  step();
  now_ns_ += 11 * kSecond;
  for (const std::string phase : {"prefill", "decode"}) {
    const std::string name = "redline_hfu{phase=\"" + phase + "\",basis=\"";
    EXPECT_EQ(value(name + "busy\",peak=\"attainable\"}"), "NaN");
    EXPECT_EQ(value(name + "wall\",peak=\"attainable\"}"), "0");
  }
}

TEST_F(MetricsText, AnUnknownPeakHasNoSamples) {
  step();
  EXPECT_EQ(value("redline_mfu{phase=\"decode\",basis=\"wall\",peak=\"vendor\"}"), "");
  EXPECT_EQ(value("redline_peak_bytes_per_second{source=\"vendor\"}"), "");
  EXPECT_EQ(value("redline_peak_bytes_per_second{source=\"attainable\"}"), "100000000");
}

TEST_F(MetricsText, SensorsThatSayNothingHaveNoSamples) {
  EXPECT_EQ(value("redline_device_energy_joules_total"), "");
  health_.energy_joules = 12.5;
  EXPECT_EQ(value("redline_device_energy_joules_total"), "12.5");
}

TEST_F(MetricsText, TenantsBeyondThoseThatHaveAPlaceShareOne) {
  for (int i = 0; i < 100'000; ++i) answers_.of_tenant("tenant " + std::to_string(i)).num_requests += 1;
  answers_.of_tenant("tenant 3").num_requests += 10;
  EXPECT_EQ(answers_.tenants.size(), AnswerTotals::kMaxTenants + 1);
  EXPECT_EQ(value("redline_tenant_requests_total{tenant=\"tenant 3\"}"), "11");
  EXPECT_EQ(value("redline_tenant_requests_total{tenant=\"other\"}"), std::to_string(100'000 - 64));
  stats_.tenants = {{"tenant 3", 1, 5, 7}, {"tenant 70", 2, 6, 8}, {"tenant 99", 3, 7, 9}};
  EXPECT_EQ(value("redline_tenant_requests_running{tenant=\"tenant 3\"}"), "1");
  EXPECT_EQ(value("redline_tenant_requests_waiting{tenant=\"tenant 4\"}"), "0");
  EXPECT_EQ(value("redline_tenant_requests_waiting{tenant=\"other\"}"), "13");
  EXPECT_EQ(value("redline_tenant_kv_blocks{tenant=\"other\"}"), "17");
  EXPECT_EQ(value("redline_tenant_kv_blocks{tenant=\"tenant 70\"}"), "");
}

TEST_F(MetricsText, VllmsNamesShowTheSameNumbersWhereAskedFor) {
  answers_.num_generated_tokens = 12;
  answers_.num_ended[static_cast<std::size_t>(FinishReason::kLength)] = 3;
  answers_.time_to_first_token.observe(0.2);
  const std::string labels = "model_name=\"my model\",engine=\"0\"";
  EXPECT_EQ(value("vllm:generation_tokens_total{" + labels + "}"), "");
  EXPECT_EQ(value("vllm:generation_tokens_total{" + labels + "}", true), "12");
  EXPECT_EQ(value("vllm:request_success_total{" + labels + ",finished_reason=\"length\"}", true), "3");
  EXPECT_EQ(value("vllm:time_to_first_token_seconds_count{" + labels + "}", true), "1");
  EXPECT_EQ(value("redline_generated_tokens_total", true), "12");
}

}  // namespace
}  // namespace redline::server
