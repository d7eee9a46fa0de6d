#include "tools/redline/load_command.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "tools/load/drive.h"
#include "tools/load/plot.h"
#include "tools/redline/command.h"
#include "tools/redline/terminal.h"

namespace redline {
namespace {

constexpr double kMost = 1e9;
// Points of a sweep, and their warm-ups, ask different things: none finds another's prompts cached.
constexpr std::uint64_t kSeedsPerPoint = 1000;

std::string date_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", std::localtime(&now));
  return text;
}

/// "0.5,4,inf".
std::vector<double> parse_rates(const std::string& text) {
  std::vector<double> rates;
  std::istringstream items(text);
  for (std::string item; std::getline(items, item, ',');) {
    double rate = 0;
    int used = 0;
    if (std::sscanf(item.c_str(), "%lf%n", &rate, &used) != 1 ||
        static_cast<std::size_t>(used) != item.size() || !(rate > 0))
      throw UsageError("--request-rate: '" + item + "' is no number above 0, nor inf");
    rates.push_back(rate);
  }
  if (rates.empty()) throw UsageError("--request-rate: names no rate");
  return rates;
}

/// "linear:START:END" or "exponential:START:END".
load::Arrivals parse_ramp(const std::string& text) {
  load::Arrivals arrivals;
  char kind[16] = {};
  int used = 0;
  const bool reads = std::sscanf(text.c_str(), "%15[a-z]:%lf:%lf%n", kind, &arrivals.ramp_start,
                                 &arrivals.ramp_end, &used) == 3 &&
                     static_cast<std::size_t>(used) == text.size();
  const std::string name = kind;
  if (!reads || (name != "linear" && name != "exponential") || !(arrivals.ramp_start > 0) ||
      !(arrivals.ramp_end > 0))
    throw UsageError("--ramp: '" + text + "' is neither linear:START:END nor exponential:START:END");
  arrivals.ramp = name == "linear" ? load::Ramp::kLinear : load::Ramp::kExponential;
  return arrivals;
}

template <class Parse>
auto parsed(const char* flag, Parse&& parse) {
  try {
    return parse();
  } catch (const std::invalid_argument& error) {
    throw UsageError(std::string(flag) + ": " + error.what());
  }
}

}  // namespace

void LoadFlags::add_to(Flags& flags) {
  flags.number("--num-prompts", "Send this many requests at each point", num_prompts_, 1);
  flags.text("--request-rate", "X,..", "Requests a second, on average; several make a sweep", rates_);
  flags.number("--burstiness", "Shape of the gaps' gamma distribution: 1 is Poisson's, less comes in bursts",
               burstiness_, 1e-3, kMost);
  flags.text("--ramp", "KIND:X:X", "Rates from linear:START:END or exponential:START:END instead", ramp_);
  flags.sizes("--max-concurrency", "At most this many requests at a time; several make a sweep",
              concurrencies_, 1);
  flags.number("--num-warmups", "Requests before each point that do not count", num_warmups_, 0);
  flags.text("--input-len", "N", "Prompt tokens: N, uniform:LOW:HIGH or lognormal:MEAN:STDDEV", input_);
  flags.text("--output-len", "N", "Tokens to generate at most, in the same forms", output_);
  flags.size("--prefix-len", "Tokens before each prompt that requests share", prefix_);
  flags.number("--num-prefixes", "Different shared prefixes", num_prefixes_, 1);
  flags.text("--dataset", "FILE", "Prompts from JSON lines {\"prompt\": TEXT} or {\"messages\": [...]}",
             dataset_);
  flags.text("--replay", "FILE", "Replay JSON lines {timestamp (ms), input_length, output_length, hash_ids}",
             trace_);
  flags.number("--replay-speed", "Replay this many times as fast", speed_, 1e-6, kMost);
  flags.flag("--ignore-eos", "Generate to the full length; servers must know the field ignore_eos",
             ignore_eos_);
  flags.number("--temp", "Temperature; 0 takes the likeliest token", temperature_, 0, 100);
  flags.texts("--goodput", "NAME:MS", "Requests within ttft:MS, tpot:MS and e2el:MS count as good", goodput_,
              /*several_at_once=*/true);
  flags.number("--seed", "The same seed asks the same", seed_);
  flags.text("--label", "TEXT", "A name for the result", label_);
  flags.text("--plot", "OUT.svg", "Draw throughput against latency", plot_);
  flags.flag("--detailed", "With --json: every request's lengths and times", detailed_);
  flags.flag("--json", "Print one JSON object, or an array of them for a sweep", json_);
}

std::vector<LoadFlags::Setting> LoadFlags::sweep() const {
  std::vector<Setting> settings;
  const auto concurrencies = concurrencies_.empty() ? std::vector<std::int64_t>{0} : concurrencies_;
  for (const double rate : parse_rates(rates_))
    for (const std::int64_t concurrency : concurrencies) settings.push_back({rate, concurrency});
  return settings;
}

load::WorkloadOptions LoadFlags::workload_options(const Setting& setting, std::int32_t num_units) const {
  load::WorkloadOptions options;
  options.num_requests = static_cast<std::size_t>(num_prompts_);
  options.input = parsed("--input-len", [&] { return load::Lengths::parse(input_); });
  options.output = parsed("--output-len", [&] { return load::Lengths::parse(output_); });
  options.prefix_units = prefix_;
  options.num_prefixes = num_prefixes_;
  if (!ramp_.empty()) options.arrivals = parse_ramp(ramp_);
  options.arrivals.rate = setting.rate;
  options.arrivals.burstiness = static_cast<double>(burstiness_);
  options.num_units = num_units;
  options.seed = seed_;
  return options;
}

std::vector<load::LoadRequest> LoadFlags::workload(const load::WorkloadOptions& options) const {
  if (!dataset_.empty() && !trace_.empty()) throw UsageError("--dataset and --replay exclude each other");
  if (!dataset_.empty()) return load::dataset_workload(dataset_, options);
  if (!trace_.empty()) return load::replayed_workload(trace_, static_cast<double>(speed_), options);
  return load::random_workload(options);
}

int LoadFlags::run(load::Target& target, const load::LoadPoint& named, std::int32_t num_units) const {
  const load::Goodput goodput = parsed("--goodput", [&] { return load::Goodput::parse(goodput_); });
  const InterruptGuard interrupt;
  std::vector<load::LoadPoint> points;
  for (const Setting& setting : sweep()) {
    load::WorkloadOptions options = workload_options(setting, num_units);
    options.seed = seed_ + kSeedsPerPoint * points.size();
    const std::vector<load::LoadRequest> requests = workload(options);
    load::LoadPoint& point = points.emplace_back(named);
    point.label = label_;
    point.num_prompts = requests.size();
    point.arrivals = options.arrivals;
    point.max_concurrency = setting.concurrency;
    point.goodput = goodput;
    point.date = date_now();
    load::DriveOptions drive;
    drive.max_concurrency = setting.concurrency;
    if (num_warmups_ > 0) {
      options.num_requests = static_cast<std::size_t>(num_warmups_);
      options.seed += 1;
      drive.warmups = workload(options);
    }
    {
      ProgressBar bar(describe_load(point));
      drive.go_on = [&](std::size_t done, std::size_t total) {
        bar.show(static_cast<std::int64_t>(done), static_cast<std::int64_t>(total));
        return !interrupt.requested();
      };
      point.outcome = load::drive(target, requests, drive);
    }
    point.statistics = load::statistics_of(point.outcome.records, goodput);
    if (point.outcome.interrupted) break;
  }

  if (json_) {
    load::Json results = load::Json::array();
    for (const load::LoadPoint& point : points) results.push_back(to_json(point, detailed_));
    std::printf("%s\n", (results.size() == 1 ? results.front() : results)
                            .dump(-1, ' ', false, load::Json::error_handler_t::replace)
                            .c_str());
  } else {
    std::printf("%s", to_table(points).c_str());
  }
  if (!plot_.empty()) {
    std::ofstream file(plot_);
    file << load::to_svg(points);
    if (!file.flush()) throw std::runtime_error(plot_ + ": cannot be written");
  }
  if (points.back().outcome.interrupted) return kExitInterrupted;
  const bool any =
      std::ranges::any_of(points, [](const auto& point) { return point.statistics.completed > 0; });
  if (!any)
    throw std::runtime_error("no request was answered: " + points.back().outcome.records.front().error);
  return kExitDone;
}

}  // namespace redline
