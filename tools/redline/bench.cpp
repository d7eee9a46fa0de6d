// redline bench: rows as llama-bench prints them, with what the hardware did for them.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/meter/explanation.h"
#include "engine/meter/format.h"
#include "engine/meter/pictures.h"
#include "engine/meter/probe.h"
#include "engine/weights.h"
#include "kernels/cpu/ceilings.h"
#include "tools/redline/bench_run.h"
#include "tools/redline/command.h"
#include "tools/redline/session.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct BenchFlags {
  std::string model, shape, report, trace;
  std::vector<std::string> on;  // devices whose roofs the report shows as well
  std::vector<std::int64_t> prompts{512}, generated{128}, depths{0}, batches{1};
  std::int32_t repetitions = 5;
  DType kv_dtype = DType::kBF16;
  ModelFlags model_flags;
  bool json = false, explain = false, paired = false;

  std::string name() const { return shape.empty() ? model_name(model) : shape; }
};

/// A repetition held against what the processor attained just before it.
struct PairedSample {
  double busy_s = 0, bandwidth = 0;  // read from memory, bytes per second
  Ratios ratios;
};

struct Row {
  BenchTest test;
  std::vector<double> tokens_per_s;  // of each repetition
  std::vector<PairedSample> paired;  // likewise, where asked for
  BenchRecord record;
  MeanClock clock{};

  const UtilizationMeter& meter() const { return record.meter; }
  std::string name() const {
    return (test.num_prompt > 0 ? "pp" : "tg") + std::to_string(test.num_tokens()) +
           (test.depth > 0 ? " @ d" + std::to_string(test.depth) : "");
  }
  Phase phase() const { return test.num_prompt > 0 ? Phase::kPrefill : Phase::kDecode; }
  /// Busy over the attainable peaks: over those beside each repetition, the median, where they were measured.
  std::optional<double> ratio(std::optional<double> Ratios::*member) const {
    if (!paired.empty()) return median_of_pairs(member);
    const auto basis = meter().roofline(phase()).basis;
    return basis ? meter().ratios(phase(), TimeBasis::kBusy, *basis).*member : std::nullopt;
  }
  std::optional<double> median_of_pairs(std::optional<double> Ratios::*member) const {
    std::vector<double> values;
    for (const PairedSample& sample : paired)
      if (const auto value = sample.ratios.*member) values.push_back(*value);
    if (values.empty()) return std::nullopt;
    std::ranges::sort(values);
    return values[values.size() / 2];
  }
  double mean() const {
    return std::accumulate(tokens_per_s.begin(), tokens_per_s.end(), 0.0) /
           static_cast<double>(tokens_per_s.size());
  }
  /// Of the sample (n - 1); 0 for one repetition.
  double deviation() const {
    double sum = 0;
    for (const double rate : tokens_per_s) sum += (rate - mean()) * (rate - mean());
    return tokens_per_s.size() < 2 ? 0 : std::sqrt(sum / static_cast<double>(tokens_per_s.size() - 1));
  }
};

std::vector<BenchTest> tests_of(const BenchFlags& flags) {
  std::vector<BenchTest> tests;
  for (const std::int64_t batch : flags.batches)
    for (const std::int64_t depth : flags.depths) {
      for (const std::int64_t count : flags.prompts)
        if (count > 0) tests.push_back({.num_prompt = count, .depth = depth, .batch = batch});
      for (const std::int64_t count : flags.generated)
        if (count > 0) tests.push_back({.num_generated = count, .depth = depth, .batch = batch});
    }
  if (tests.empty()) throw UsageError("nothing to measure: --n-prompt and --n-gen are both 0");
  return tests;
}

Explanation explanation_of(const Row& row, const std::vector<Row>& rows, const DiagnosedModel& model) {
  const auto other = std::ranges::find_if(rows, [&](const Row& each) { return each.phase() != row.phase(); });
  const double wall_s = row.meter().totals(row.phase()).wall_ns * 1e-9;
  return explain(row.meter(), model,
                 {.wall_s = wall_s,
                  .clock = row.clock.share_of(row.meter().peaks().nominal_clock_hz),
                  .also = other == rows.end() ? nullptr : &other->meter().totals()});
}

Json paired_json(const Row& row) {
  Json samples = Json::array();
  const auto or_null = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
  };
  for (const PairedSample& sample : row.paired)
    samples.push_back({{"busy_s", sample.busy_s},
                       {"read_bytes_per_s", sample.bandwidth},
                       {"mfu", or_null(sample.ratios.mfu)},
                       {"mbu", or_null(sample.ratios.mbu)}});
  return {{"mfu", or_null(row.ratio(&Ratios::mfu))},
          {"mbu", or_null(row.ratio(&Ratios::mbu))},
          {"samples", std::move(samples)}};
}

Json row_json(const Row& row, const BenchFlags& flags, const LoadedModel& model, const std::string& dtype) {
  return {{"test", row.name()},
          {"n_prompt", row.test.num_prompt},
          {"n_gen", row.test.num_generated},
          {"n_depth", row.test.depth},
          {"batch", row.test.batch},
          {"threads", model.ops->num_threads()},
          {"dtype", dtype},
          {"device", row.meter().peaks().device_name},
          {"avg_ts", row.mean()},
          {"stddev_ts", row.deviation()},
          {"samples_ts", row.tokens_per_s},
          {"utilization", row.meter().phase_json(row.phase())},
          {"model", flags.name()}};
}

std::vector<std::vector<std::string>> table_of(const std::vector<Row>& rows, const BenchFlags& flags,
                                               const LoadedModel& model, const std::string& dtype) {
  std::vector<std::vector<std::string>> table{
      {"model", "size", "dtype", "threads", "batch", "test", "t/s", "MFU", "MBU", "bound by"}};
  for (const Row& row : rows) {
    char rate[64];
    std::snprintf(rate, sizeof rate, "%.2f ± %.2f", row.mean(), row.deviation());
    const char* bound_by = row.meter().roofline(row.phase()).bound_by;
    table.push_back({flags.name(), format_si(static_cast<double>(model.weights->type_bytes), "B"), dtype,
                     std::to_string(model.ops->num_threads()), std::to_string(row.test.batch), row.name(),
                     rate, format_if_known(row.ratio(&Ratios::mfu), format_percent),
                     format_if_known(row.ratio(&Ratios::mbu), format_percent),
                     bound_by == nullptr ? kUnknownText : bound_by});
  }
  return table;
}

std::vector<const HardwareSpec*> devices_of(const std::vector<std::string>& names) {
  std::vector<const HardwareSpec*> devices;
  for (const std::string& name : names) {
    devices.push_back(find_hardware(name));
    if (devices.back() != nullptr) continue;
    std::string known;
    for (const HardwareSpec& spec : known_hardware()) known += (known.empty() ? "" : ", ") + spec.id;
    throw UsageError("--on: '" + name + "' is not known; there are " + known);
  }
  return devices;
}

HtmlReport report_of(const std::vector<Row>& rows, const BenchFlags& flags, const LoadedModel& model,
                     const std::string& dtype, const DiagnosedModel& explained) {
  const DevicePeaks& device = rows.front().meter().peaks();
  HtmlReport report;
  report.title = flags.name() + " on " + device.device_name;
  report.summary = {std::to_string(model.ops->num_threads()) + " threads, " + model.ops->name() +
                    ", redline " + REDLINE_VERSION};
  report.table = table_of(rows, flags, model, dtype);
  HtmlReport::Section why{"Where the time went", {}, {}};
  std::vector<NamedWaterfall> bars;
  std::vector<MeteredStep> steps;
  for (const Row& row : rows) {
    const Explanation explanation = explanation_of(row, rows, explained);
    const std::string name = row.name() + (row.test.batch > 1 ? " x " + std::to_string(row.test.batch) : "");
    if (explanation.waterfall) bars.push_back({name, explanation.waterfall->whole});
    for (const Diagnosis& diagnosis : explanation.why)
      why.sentences.push_back(name + ": " + diagnosis.sentence() + ".");
    if (&row == &rows.front())
      for (const std::string& note : explanation.notes) report.summary.push_back("Note: " + note + ".");
    steps.insert(steps.end(), row.record.steps.begin(), row.record.steps.end());
  }
  why.svg = waterfall_svg(bars);
  report.sections = {std::move(why),
                     {"Roofline", {}, roofline_svg(device, devices_of(flags.on), steps)},
                     {"MFU over time", {}, mfu_svg(steps)}};
  return report;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error(path + ": cannot be written: " + std::strerror(errno));
}

std::shared_ptr<LoadedModel> model_of(const BenchFlags& flags) {
  if (flags.model.empty() == flags.shape.empty()) throw UsageError("give either MODEL or --shape NAME");
  if (!flags.model.empty()) return load_model(flags.model, flags.model_flags);
  return LoadedModel::random(flags.shape, flags.model_flags.dtype.value_or(DType::kQ8_0),
                             flags.model_flags.options());
}

/// What the processor attains, measured next to each repetition: on a shared machine it changes from one
/// second to the next.
class PairedPeaks {
 public:
  explicit PairedPeaks(const LoadedModel& model)
      : weight_bytes_(model.weights->stored_bytes), ceilings_(options_for(*model.ops)) {}

  void measure() { peaks_ = peaks_of(ProbeResult{ceilings_.measure()}); }
  /// What was added to the phase since `before`, against the peaks measured last.
  PairedSample sample(const UtilizationMeter& meter, Phase phase, PhaseTotals before) const {
    PhaseTotalsArray totals{};
    PhaseTotals& mine = totals[static_cast<std::size_t>(phase)] = meter.totals(phase);
    mine -= before;
    const UtilizationMeter repetition(peaks_, weight_bytes_, totals);
    return {mine.busy_ns * 1e-9, peaks_.bandwidth.attainable,
            repetition.ratios(phase, TimeBasis::kBusy, PeakBasis::kAttainable)};
  }

 private:
  static CeilingOptions options_for(const Ops& ops) {
    const std::string name = ops.name(), cpu = "cpu ";
    if (!name.starts_with(cpu)) throw UsageError("--paired: measures the peaks of CPUs, not of " + name);
    return {.isa = name.substr(cpu.size()), .threads = ops.num_threads(), .memory_bytes = 512 << 20};
  }

  std::int64_t weight_bytes_;
  CeilingMeter ceilings_;
  DevicePeaks peaks_;
};

int bench(const BenchFlags& flags) {
  const std::vector<BenchTest> tests = tests_of(flags);
  devices_of(flags.on);  // wrong names are told before anything is measured
  const auto model = model_of(flags);
  const std::string dtype = traits(model->weights->layers.front().down.view.dtype).name;
  const DevicePeaks peaks = metered_peaks(*model);
  std::int64_t tokens = 0, batch = 0;
  for (const BenchTest& test : tests) {
    tokens = std::max(tokens, test.depth + test.num_tokens());
    batch = std::max(batch, test.batch);
  }
  const std::unique_ptr<DeviceSensors> sensors = sensors_of(flags.model_flags.device);
  BenchRun run(*model, flags.kv_dtype, batch, tokens);
  const auto trace = trace_to(flags.trace, flags.name(), peaks);
  std::optional<PairedPeaks> paired;
  if (flags.paired) paired.emplace(*model);
  std::vector<Row> rows;
  for (const BenchTest& test : tests) {
    Row row{test, {}, {}, {UtilizationMeter(peaks, model->weights->stored_bytes), {}, trace.get()}};
    run.warm_up(test);
    for (std::int32_t i = 0; i < flags.repetitions; ++i) {
      const PhaseTotals before = row.meter().totals(row.phase());
      if (paired) paired->measure();
      const std::int64_t start_ns = TraceWriter::now_ns();
      const double seconds = run.measure(test, row.record);
      if (trace) trace->add_stretch(row.name(), start_ns, TraceWriter::now_ns());
      if (paired) row.paired.push_back(paired->sample(row.meter(), row.phase(), before));
      row.tokens_per_s.push_back(static_cast<double>(test.batch * test.num_tokens()) / seconds);
      row.clock.add(sensors->read());  // still as it was at work
    }
    std::fprintf(stderr, "%s: %.2f t/s\n", row.name().c_str(), row.mean());
    rows.push_back(std::move(row));
  }
  if (trace) trace->close();
  const DiagnosedModel explained = diagnosed(*model, flags.kv_dtype);
  if (!flags.report.empty())
    write_file(flags.report, report_of(rows, flags, *model, dtype, explained).html());
  if (flags.json) {
    Json array = Json::array();
    for (const Row& row : rows) {
      array.push_back(row_json(row, flags, *model, dtype));
      if (flags.paired) array.back()["paired"] = paired_json(row);
      if (flags.explain) {
        const Explanation explanation = explanation_of(row, rows, explained);
        explanation.add_to(array.back()["utilization"]);
        array.back()["explanation"] = explanation.json();
      }
    }
    std::printf("%s\n", array.dump().c_str());
  } else {
    std::printf("%s", format_table(table_of(rows, flags, *model, dtype)).c_str());
    for (const Row& row : rows)
      if (flags.explain)
        std::printf("\n%s, batch %lld\n%s", row.name().c_str(), static_cast<long long>(row.test.batch),
                    explanation_of(row, rows, explained).report().c_str());
  }
  return kExitDone;
}

}  // namespace

Action declare_bench(Flags& flags) {
  const auto values = std::make_shared<BenchFlags>();
  add_model_argument(flags, values->model, /*required=*/false);
  flags.text("--shape", "NAME", "A known model's shape with random weights, such as llama-3.2-1b",
             values->shape);
  flags.sizes("-p,--n-prompt", "Prefill this many tokens", values->prompts, 0);
  flags.sizes("-n,--n-gen", "Decode this many tokens", values->generated, 0);
  flags.sizes("-d,--n-depth", "With this many tokens cached before", values->depths, 0);
  flags.sizes("--batch", "This many sequences at once", values->batches, 1);
  flags.number("-r,--repetitions", "Measure each row this often", values->repetitions, 1, 1000000);
  flags.dtype("--kv-dtype", "The cache's type: bf16, f32 or, on CPUs, q8_0", values->kv_dtype,
              {DType::kBF16, DType::kF32, DType::kQ8_0});
  values->model_flags.add_to(flags);
  flags.flag("--paired",
             "Hold each repetition against peaks measured just before it; medians of those (CPUs)",
             values->paired);
  flags.flag("--json", "Print a JSON array of rows", values->json);
  flags.text("--report", "FILE", "Write an HTML page: rows, waterfall, roofline, MFU over time",
             values->report);
  flags.texts("--on", "NAME", "Show this device's roof on the page too: h100, h200, a100, ...", values->on);
  flags.flag("--explain", "Say of each row where the time went, why, and what would change it",
             values->explain);
  add_trace_flag(flags, values->trace);
  return [values] { return bench(*values); };
}

}  // namespace redline
