// redline report: what the calls in a server's ledger used, by tenant, model, run or day.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "accounts/account_store.h"
#include "engine/meter/economics.h"
#include "engine/meter/format.h"
#include "tools/redline/command.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct ReportFlags {
  std::string file, by = "tenant", since;
  bool csv = false, json = false;
  std::optional<double> price;
};

GroupBy group_of(const std::string& by) {
  const auto* found = std::find(std::begin(kGroupNames), std::end(kGroupNames), by);
  if (found == std::end(kGroupNames))
    throw UsageError("--by is " + by + "; known are tenant, model, run and day");
  return static_cast<GroupBy>(found - std::begin(kGroupNames));
}

// "90s", "15m", "12h", "1d", "2w" before now; "": the beginning.
double since_of(const std::string& text) {
  if (text.empty()) return 0;
  std::size_t end = 0;
  double amount = -1;
  try {
    amount = std::stod(text, &end);
  } catch (const std::exception&) {
  }
  static constexpr std::pair<char, double> kUnits[] = {
      {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
  for (const auto& [unit, seconds] : kUnits)
    if (amount >= 0 && end + 1 == text.size() && text[end] == unit) return unix_seconds() - amount * seconds;
  throw UsageError("--since is " + text + "; expected a time such as 90s, 15m, 12h, 1d or 2w");
}

std::optional<double> cost_of(double device_s, const ReportFlags& flags) {
  if (!flags.price) return std::nullopt;
  return device_s * *flags.price / kSecondsPerHour;
}

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json row_json(const AccountSum& sum, const ReportFlags& flags) {
  Json row{{flags.by, sum.group},
           {"calls", sum.num_calls},
           {"prompt_tokens", sum.prompt_tokens},
           {"cached_tokens", sum.cached_tokens},
           {"generated_tokens", sum.generated_tokens}};
  for (std::size_t phase = 0; phase < kNumPhases; ++phase)
    row[kPhaseNames[phase]] = {
        {"flops", sum.flops[phase]}, {"bytes", sum.bytes[phase]}, {"device_seconds", sum.device_s[phase]}};
  row["joules"] = or_null(sum.joules);
  row["cost"] = or_null(cost_of(sum.device_seconds(), flags));
  return row;
}

// Idle time and gaps are nobody's call: a bucket of their own.
Json device_json(const std::vector<RunAccount>& runs, const ReportFlags& flags) {
  double idle_s = 0, gap_s = 0, busy_s = 0;
  for (const RunAccount& run : runs) {
    idle_s += run.idle_s;
    gap_s += run.gap_s;
    busy_s += run.busy_s;
  }
  return {{"runs", runs.size()},
          {"idle_seconds", idle_s},
          {"gap_seconds", gap_s},
          {"busy_seconds", busy_s},
          {"cost", or_null(cost_of(idle_s + gap_s + busy_s, flags))}};
}

// A spreadsheet takes a text that begins so for a formula; quotes within are doubled.
std::string csv_text(const std::string& text) {
  std::string quoted = "\"";
  if (!text.empty() && std::string_view("=+-@").find(text.front()) != std::string_view::npos) quoted += '\'';
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

void print_csv(const std::vector<AccountSum>& sums, const ReportFlags& flags) {
  std::printf(
      "%s,calls,prompt_tokens,cached_tokens,generated_tokens,prefill_flops,decode_flops,prefill_bytes,"
      "decode_bytes,prefill_device_seconds,decode_device_seconds,joules,cost\n",
      flags.by.c_str());
  for (const AccountSum& sum : sums) {
    std::printf("%s,%lld,%lld,%lld,%lld", csv_text(sum.group).c_str(), static_cast<long long>(sum.num_calls),
                static_cast<long long>(sum.prompt_tokens), static_cast<long long>(sum.cached_tokens),
                static_cast<long long>(sum.generated_tokens));
    for (const auto& pair : {sum.flops, sum.bytes, sum.device_s})
      for (const double value : pair) std::printf(",%.15g", value);
    for (const auto& value : {sum.joules, cost_of(sum.device_seconds(), flags)})
      value ? std::printf(",%.15g", *value) : std::printf(",");
    std::printf("\n");
  }
}

// Of the calls shown.
std::string energy_text(const std::vector<AccountSum>& sums) {
  if (sums.empty()) return "not exposed";
  double joules = 0;
  for (const AccountSum& sum : sums) {
    if (!sum.joules) return "not exposed";
    joules += *sum.joules;
  }
  return format_si(joules, "J");
}

void print_table(const std::vector<AccountSum>& sums, const Json& device, const ReportFlags& flags) {
  std::size_t width = flags.by.size();
  for (const AccountSum& sum : sums) width = std::max(width, sum.group.size());
  const int w = static_cast<int>(width);
  std::printf("%-*s %9s %12s %12s %12s %10s %10s %10s\n", w, flags.by.c_str(), "calls", "prompt", "cached",
              "generated", "FLOPs", "device s", "cost");
  for (const AccountSum& sum : sums) {
    const auto cost = cost_of(sum.device_seconds(), flags);
    char cost_text[32] = "";
    if (cost) std::snprintf(cost_text, sizeof cost_text, "%.4f", *cost);
    std::printf("%-*s %9lld %12lld %12lld %12lld %10s %10.1f %10s\n", w, sum.group.c_str(),
                static_cast<long long>(sum.num_calls), static_cast<long long>(sum.prompt_tokens),
                static_cast<long long>(sum.cached_tokens), static_cast<long long>(sum.generated_tokens),
                format_si(sum.flops[0] + sum.flops[1], "").c_str(), sum.device_seconds(), cost_text);
  }
  std::printf("\nDevice, of %zu runs in whole: busy %.1f s, gaps %.1f s, idle %.1f s. Energy: %s.\n",
              device["runs"].get<std::size_t>(), device["busy_seconds"].get<double>(),
              device["gap_seconds"].get<double>(), device["idle_seconds"].get<double>(),
              energy_text(sums).c_str());
}

// `serve --ledger` takes it from the environment too, so that both may be called without it.
std::string ledger_of(const ReportFlags& flags) {
  if (!flags.file.empty()) return flags.file;
  const char* const named = std::getenv("REDLINE_LEDGER");
  if (!named || !*named) throw UsageError("give LEDGER, or its file's name in REDLINE_LEDGER");
  return named;
}

int report(const ReportFlags& flags) {
  const GroupBy group = group_of(flags.by);
  const double since_s = since_of(flags.since);
  if (flags.csv && flags.json) throw UsageError("--csv and --json exclude each other");
  const AccountStore store(ledger_of(flags), AccountStore::Mode::kRead);
  const std::vector<AccountSum> sums = store.sums(group, since_s);
  const Json device = device_json(store.runs(since_s), flags);
  if (flags.csv) {
    print_csv(sums, flags);
  } else if (flags.json) {
    Json rows = Json::array();
    for (const AccountSum& sum : sums) rows.push_back(row_json(sum, flags));
    std::printf("%s\n", Json{{"by", flags.by}, {"rows", rows}, {"device", device}}
                            .dump(-1, ' ', false, Json::error_handler_t::replace)
                            .c_str());
  } else {
    print_table(sums, device, flags);
  }
  return kExitDone;
}

}  // namespace

Action declare_report(Flags& flags) {
  const auto values = std::make_shared<ReportFlags>();
  flags.argument("LEDGER", "The file that `redline serve --ledger` writes (default: $REDLINE_LEDGER)",
                 values->file,
                 /*required=*/false);
  flags.text("--by", "GROUP", "Add calls up by tenant, model, run or day (UTC)", values->by);
  flags.text("--since", "TIME", "Only calls that began in the last 90s, 15m, 12h, 1d or 2w (default: all)",
             values->since);
  flags.number("--price", "Of the device's hour: adds what the device time cost", values->price, 0, 1e9);
  flags.flag("--csv", "Print comma-separated values", values->csv);
  flags.flag("--json", "Print one JSON object", values->json);
  return [values] { return report(*values); };
}

}  // namespace redline
