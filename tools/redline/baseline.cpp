// redline baseline record, check: keep what was measured, and say whether it still holds.
#include "engine/meter/baseline.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/meter/format.h"
#include "tools/redline/command.h"
#include "tools/redline/options.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct BaselineFlags {
  std::string file;
  std::vector<std::string> runs;
  std::optional<double> chance, least_effect;
  bool json = false;
};

Json parse_file(const std::string& path) {
  Json json = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw std::runtime_error(path + ": is no JSON");
  return json;
}

template <class Read>
auto with_name(const std::string& path, Read&& read) {
  try {
    return read(parse_file(path));
  } catch (const Json::exception& error) {
    throw std::runtime_error(path + ": " + error.what());
  } catch (const std::runtime_error& error) {
    const std::string what = error.what();
    throw std::runtime_error(what.starts_with(path) ? what : path + ": " + what);
  }
}

Baseline runs_of(const BaselineFlags& flags) {
  if (flags.runs.empty()) throw UsageError("--run: give at least one");
  Baseline baseline;
  for (const std::string& path : flags.runs)
    with_name(path, [&](const Json& run) {
      add_run(baseline, run);
      return 0;
    });
  return baseline;
}

int record(const BaselineFlags& flags) {
  const Baseline baseline = runs_of(flags);
  std::ofstream file(flags.file, std::ios::binary);
  file << to_json(baseline).dump(1) << "\n";
  file.close();
  if (!file) throw std::runtime_error(flags.file + ": cannot be written: " + std::strerror(errno));
  std::fprintf(stderr, "%s: %zu buckets\n", flags.file.c_str(), baseline.size());
  return kExitDone;
}

std::string name_of(const BaselineKey& key) {
  const auto bucket = [](std::int64_t low) {
    return low < 2 ? std::to_string(low) : std::to_string(low) + "-" + std::to_string(2 * low - 1);
  };
  return key.model + " " + key.dtype + ", " + key.phase + ", batch " + bucket(key.batch) + ", context " +
         bucket(key.context);
}

Json finding_json(const BaselineFinding& finding) {
  return {
      {"model", finding.key.model}, {"device", finding.key.device},
      {"dtype", finding.key.dtype}, {"phase", finding.key.phase},
      {"batch", finding.key.batch}, {"context", finding.key.context},
      {"figure", finding.figure},   {"before", finding.before},
      {"after", finding.after},     {"worse_by", finding.worse_by},
      {"chance", finding.chance},   {"verdict", kBaselineVerdictNames[static_cast<int>(finding.verdict)]}};
}

int check_runs(const BaselineFlags& flags) {
  const Baseline baseline = with_name(flags.file, baseline_from_json), run = runs_of(flags);
  BaselineLimits limits;
  limits.chance = flags.chance.value_or(limits.chance);
  limits.least_effect = flags.least_effect.value_or(limits.least_effect);
  const std::vector<BaselineFinding> findings = check(baseline, run, limits);
  const auto any = [&](BaselineVerdict verdict) {
    return std::ranges::any_of(findings,
                               [&](const BaselineFinding& each) { return each.verdict == verdict; });
  };
  const bool regressed = any(BaselineVerdict::kRegressed),
             compared = regressed || any(BaselineVerdict::kKept);
  const char* verdict = regressed ? "regressed" : compared ? "kept" : "not comparable";
  if (flags.json) {
    Json array = Json::array();
    for (const BaselineFinding& finding : findings) array.push_back(finding_json(finding));
    const Json json{{"verdict", verdict},
                    {"chance", limits.chance},
                    {"least_effect", limits.least_effect},
                    {"buckets_of_baseline", baseline.size()},
                    {"buckets_of_run", run.size()},
                    {"findings", std::move(array)}};
    std::printf("%s\n", json.dump().c_str());
  } else {
    std::vector<std::vector<std::string>> table{
        {"", "figure", "before", "after", "change", "by chance", "verdict"}};
    for (const BaselineFinding& each : findings)
      table.push_back({name_of(each.key), each.figure, format_number(each.before), format_number(each.after),
                       format_percent(std::abs(each.worse_by)) + (each.worse_by >= 0 ? " worse" : " better"),
                       format_percent(each.chance), kBaselineVerdictNames[static_cast<int>(each.verdict)]});
    if (!findings.empty()) std::printf("%s", format_table(table).c_str());
    std::printf(
        "%s%s\n", verdict,
        findings.empty() ? ": no bucket of model, device, type, phase, batch and context is in both" : "");
  }
  return regressed ? kExitRegressed : compared ? kExitDone : kExitNotComparable;
}

void add_files(Flags& flags, BaselineFlags& values, const char* what) {
  flags.argument("FILE", what, values.file);
  flags.texts("--run", "RUN.json",
              "What bench printed with --json, or bench load and serve with --json --detailed", values.runs,
              /*several_at_once=*/true);
}

}  // namespace

Action declare_baseline(Flags&) {
  return []() -> int { throw UsageError("say record or check"); };
}

Action declare_baseline_record(Flags& flags) {
  const auto values = std::make_shared<BaselineFlags>();
  add_files(flags, *values, "The baseline to write");
  return [values] { return record(*values); };
}

Action declare_baseline_check(Flags& flags) {
  const auto values = std::make_shared<BaselineFlags>();
  add_files(flags, *values, "The baseline to hold runs against");
  flags.number("--chance", "That a check without any change raises an alarm (default: 0.05)", values->chance,
               1e-9, 0.5);
  flags.number("--least-effect", "A median worse by less is no regression (default: 0.05)",
               values->least_effect, 0, 1);
  flags.flag("--json", "Print one JSON object", values->json);
  return [values] { return check_runs(*values); };
}

}  // namespace redline
