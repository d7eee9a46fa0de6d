// redline compare: two builds or two configurations, run in turn, and whether they differ.
#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/meter/format.h"
#include "engine/meter/samples.h"
#include "tools/redline/command.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int32_t kLeastRounds = 6;  // for an interval to hold in 95 of 100 cases

struct CompareFlags {
  std::string a, b, bench;
  std::int32_t rounds = 10;
  bool json = false;
};

/// What runs for A or B: options of this program's bench, or another program.
std::string command_of(const std::string& side, const std::string& bench) {
  const bool is_options = side.starts_with("-");
  return (is_options ? "/proc/$PPID/exe" : side) + " bench " + bench + (is_options ? " " + side : "") +
         " -r 1 --json";
}

Json rows_of(const std::string& command) {
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) throw std::runtime_error(command + ": cannot be started");
  char buffer[4096];
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
  const int status = pclose(pipe);
  if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0)
    throw std::runtime_error(
        command + ": ended with status " +
        std::to_string(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)));
  Json rows = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!rows.is_array() || rows.empty()) throw std::runtime_error(command + ": printed no rows of a bench");
  for (const Json& row : rows)
    if (!row.is_object() || !row.contains("test") || !row.contains("batch") || !row.contains("avg_ts"))
      throw std::runtime_error(command + ": printed no rows of a bench");
  return rows;
}

/// One test of the bench, in every round.
struct Compared {
  std::string test;
  std::int64_t batch = 1;
  std::vector<double> a, b, log_ratios;

  Json json() const {
    const MedianInterval ratio = *median_interval(log_ratios);
    const bool differs = ratio.low > 0 || ratio.high < 0;
    return {{"test", test},
            {"batch", batch},
            {"a_ts", median(a)},
            {"b_ts", median(b)},
            {"ratio", std::exp(ratio.median)},
            {"low", std::exp(ratio.low)},
            {"high", std::exp(ratio.high)},
            {"verdict", !differs           ? "no difference"
                        : ratio.median > 0 ? "B is faster"
                                           : "A is faster"}};
  }
};

std::vector<Compared> compare_rows(const CompareFlags& flags) {
  const std::string commands[] = {command_of(flags.a, flags.bench), command_of(flags.b, flags.bench)};
  std::vector<Compared> found;
  for (std::int32_t round = 0; round < flags.rounds; ++round) {
    Json rows[2];
    // What a round does to the machine, and the machine to a round, falls on each side alike.
    for (const int side : {round % 2, 1 - round % 2}) rows[side] = rows_of(commands[side]);
    if (rows[0].size() != rows[1].size() || (round > 0 && rows[0].size() != found.size()))
      throw std::runtime_error("A printed " + std::to_string(rows[0].size()) + " rows, B " +
                               std::to_string(rows[1].size()));
    for (std::size_t i = 0; i < rows[0].size(); ++i) {
      const Json &a = rows[0][i], &b = rows[1][i];
      if (a["test"] != b["test"])
        throw std::runtime_error("A ran " + a["test"].dump() + ", B " + b["test"].dump());
      if (round == 0) found.push_back({a["test"], a["batch"], {}, {}, {}});
      found[i].a.push_back(a["avg_ts"]);
      found[i].b.push_back(b["avg_ts"]);
      found[i].log_ratios.push_back(std::log(found[i].b.back() / found[i].a.back()));
    }
    std::fprintf(stderr, "round %d of %d\n", round + 1, flags.rounds);
  }
  return found;
}

int compare(const CompareFlags& flags) {
  const std::vector<Compared> found = compare_rows(flags);
  Json rows = Json::array();
  for (const Compared& each : found) rows.push_back(each.json());
  if (flags.json) {
    std::printf(
        "%s\n",
        Json{{"a", flags.a}, {"b", flags.b}, {"rounds", flags.rounds}, {"rows", rows}}.dump().c_str());
    return kExitDone;
  }
  std::vector<std::vector<std::string>> table{
      {"test", "batch", "A t/s", "B t/s", "B / A", "95 % interval", ""}};
  for (const Json& row : rows) {
    char ratio[32], interval[64];
    std::snprintf(ratio, sizeof ratio, "%.3f", row["ratio"].get<double>());
    std::snprintf(interval, sizeof interval, "%.3f to %.3f", row["low"].get<double>(),
                  row["high"].get<double>());
    table.push_back({row["test"], row["batch"].dump(), format_number(row["a_ts"]), format_number(row["b_ts"]),
                     ratio, interval, row["verdict"]});
  }
  std::printf("%s", format_table(table).c_str());
  return kExitDone;
}

}  // namespace

Action declare_compare(Flags& flags) {
  const auto values = std::make_shared<CompareFlags>();
  flags.text("--bench", "ARGUMENTS",
             "What both run: a model and flags of redline bench, as \"MODEL -p 512 -n 64\"", values->bench);
  flags.number("--rounds", "Pairs of runs, in alternating order", values->rounds, kLeastRounds, 100000);
  flags.flag("--json", "Print one JSON object", values->json);
  flags.argument("A", "A redline program, or, after --, options for this one, as \"--dtype q8_0\"",
                 values->a);
  flags.argument("B", "What to hold against it", values->b);
  return [values] { return compare(*values); };
}

}  // namespace redline
