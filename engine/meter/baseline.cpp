#include "engine/meter/baseline.h"

#include <bit>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "engine/meter/samples.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

const Json& member(const Json& json, const std::string& key) {
  if (!json.is_object() || !json.contains(key))
    throw std::runtime_error(
        "expected what redline bench prints with --json, or bench load with --json --detailed, "
        "found no \"" +
        key + "\"");
  return json.at(key);
}

std::string text_or_unknown(const Json& json, const std::string& key) {
  return json.contains(key) && json.at(key).is_string() ? json.at(key).get<std::string>() : "unknown";
}

// A repetition does the same work in another time: shares of peaks go with its rate.
void add_row(Baseline& baseline, const Json& row) {
  const std::int64_t prompt = member(row, "n_prompt"), generated = member(row, "n_gen"),
                     depth = member(row, "n_depth");
  BaselineKey key{text_or_unknown(row, "model"),
                  text_or_unknown(row, "device"),
                  member(row, "dtype"),
                  prompt > 0 ? "prefill" : "decode",
                  bucket_of(member(row, "batch")),
                  bucket_of(depth + (prompt + generated) / 2)};
  BaselineSamples& samples = baseline[key];
  const Json &utilization = member(row, "utilization"), &rates = member(row, "samples_ts");
  const double mean = member(row, "avg_ts");
  for (const double rate : rates) {
    samples["tokens_per_s"].push_back(rate);
    for (const char* ratio : {"mfu", "mbu"})
      if (const Json& value = member(utilization, ratio); value.is_number())
        samples[ratio].push_back(value.get<double>() * rate / mean);
  }
}

void add_load(Baseline& baseline, const Json& load) {
  const Json &starts = member(load, "start_times"), &ttfts = member(load, "ttfts"),
             &itls = member(load, "itls"), &inputs = member(load, "input_lens");
  std::vector<double> ends;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    double end = starts[i].get<double>() + ttfts[i].get<double>();
    for (const Json& gap : itls[i]) end += gap.get<double>();
    ends.push_back(end);
  }
  for (std::size_t i = 0; i < starts.size(); ++i) {
    if (itls[i].empty()) continue;
    std::int64_t under_way = 0;  // when it was sent, itself included
    for (std::size_t other = 0; other < starts.size(); ++other)
      under_way += starts[other] <= starts[i] && ends[other] > starts[i].get<double>();
    const double first = ttfts[i], last = ends[i] - starts[i].get<double>();
    BaselineSamples& samples =
        baseline[{text_or_unknown(load, "model_id"), text_or_unknown(load, "device"),
                  text_or_unknown(load, "dtype"), "load", bucket_of(under_way), bucket_of(inputs[i])}];
    samples["ttft_s"].push_back(first);
    samples["tpot_s"].push_back((last - first) / static_cast<double>(itls[i].size()));
  }
}

std::vector<std::string> figures_of(const BaselineKey& key, const BaselineSamples& samples) {
  if (key.phase == "load") return {"ttft_s", "tpot_s"};
  const std::string share = key.phase == "prefill" ? "mfu" : "mbu";
  return {samples.contains(share) ? share : "tokens_per_s"};
}

}  // namespace

std::int64_t bucket_of(std::int64_t value) {
  return value < 1 ? 0 : static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(value)));
}

void add_run(Baseline& baseline, const Json& run) {
  if (!run.is_array()) return add_load(baseline, run);
  for (const Json& each : run)
    each.contains("samples_ts") ? add_row(baseline, each) : add_load(baseline, each);
}

Json to_json(const Baseline& baseline) {
  Json buckets = Json::array();
  for (const auto& [key, samples] : baseline) {
    Json bucket{{"model", key.model}, {"device", key.device}, {"dtype", key.dtype},
                {"phase", key.phase}, {"batch", key.batch},   {"context", key.context}};
    bucket["samples"] = samples;
    buckets.push_back(std::move(bucket));
  }
  return {{"redline_baseline", 1}, {"buckets", std::move(buckets)}};
}

Baseline baseline_from_json(const Json& json) {
  if (!json.is_object() || json.value("redline_baseline", 0) != 1)
    throw std::runtime_error("expected a baseline, as redline baseline record writes it");
  Baseline baseline;
  for (const Json& bucket : json.at("buckets"))
    baseline[{bucket.at("model"), bucket.at("device"), bucket.at("dtype"), bucket.at("phase"),
              bucket.at("batch"), bucket.at("context")}] = bucket.at("samples").get<BaselineSamples>();
  return baseline;
}

std::vector<BaselineFinding> check(const Baseline& baseline, const Baseline& run,
                                   const BaselineLimits& limits) {
  std::vector<BaselineFinding> findings;
  std::vector<double> chances, least;
  for (const auto& [key, after] : run) {
    const auto known = baseline.find(key);
    if (known == baseline.end()) continue;
    for (const std::string& figure : figures_of(key, after)) {
      const auto before = known->second.find(figure);
      if (before == known->second.end()) continue;
      std::vector<double> old_values = before->second, new_values = after.at(figure);
      const bool is_time = key.phase == "load";
      BaselineFinding finding{
          .key = key, .figure = figure, .before = median(old_values), .after = median(new_values)};
      finding.worse_by =
          (is_time ? finding.after - finding.before : finding.before - finding.after) / finding.before;
      chances.push_back(is_time ? p_of_lower(new_values, old_values) : p_of_lower(old_values, new_values));
      least.push_back(least_p(old_values.size(), new_values.size()));
      findings.push_back(std::move(finding));
    }
  }
  const std::vector<double> corrected = holm(chances);
  for (std::size_t i = 0; i < findings.size(); ++i) {
    findings[i].chance = corrected[i];
    if (least[i] * static_cast<double>(findings.size()) > limits.chance)
      findings[i].verdict = BaselineVerdict::kTooFew;
    else if (corrected[i] <= limits.chance && findings[i].worse_by >= limits.least_effect)
      findings[i].verdict = BaselineVerdict::kRegressed;
  }
  return findings;
}

}  // namespace redline
