// redline probe: the peaks that this machine attains, measured anew and kept for the other commands.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/meter/format.h"
#include "engine/meter/probe.h"
#include "kernels/cpu/thread_pool.h"
#include "tools/redline/command.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct ProbeFlags {
  std::int32_t threads = 0;
  std::string isa;
  bool json = false;
};

/// 1, 2, 4, ... and all; or the one asked for.
std::vector<int> thread_counts(int asked) {
  if (asked > 0) return {asked};
  std::vector<int> counts;
  for (int n = 1; n < default_num_threads(); n *= 2) counts.push_back(n);
  counts.push_back(default_num_threads());
  return counts;
}

Json or_null(double rate) { return rate > 0 ? Json(rate) : Json(); }

Json result_json(const ProbeResult& result) {
  Json compute = Json::object();
  for (std::size_t i = 0; i < kNumComputeTypes; ++i)
    compute[kComputeTypeNames[i]] = or_null(result.ceilings.ops_per_s[i]);
  return {{"threads", result.ceilings.threads},
          {"compute", compute},
          {"bandwidth", or_null(result.ceilings.memory_bytes_per_s)},
          {"llc_bandwidth", or_null(result.ceilings.llc_bytes_per_s)},
          {"disturbed", result.ceilings.disturbed}};
}

void print_table(const std::vector<ProbeResult>& results) {
  const auto rate = [](double value, const char* unit) {
    return value > 0 ? format_si(value, unit) : std::string(kUnknownText);
  };
  std::vector<std::vector<std::string>> table{{"threads"}};
  for (std::size_t i = 0; i < kNumComputeTypes; ++i) table[0].push_back(kComputeTypeNames[i]);
  table[0].push_back("memory");
  table[0].push_back("last-level cache");
  for (const ProbeResult& result : results) {
    std::vector<std::string> row{std::to_string(result.ceilings.threads)};
    for (const double ops : result.ceilings.ops_per_s) row.push_back(rate(ops, "FLOP/s"));
    row.push_back(rate(result.ceilings.memory_bytes_per_s, "B/s"));
    row.push_back(rate(result.ceilings.llc_bytes_per_s, "B/s"));
    table.push_back(row);
  }
  std::printf("%s", format_table(table).c_str());
}

int run_probe(const ProbeFlags& flags) {
  std::vector<ProbeResult> results;
  for (const int threads : thread_counts(flags.threads))
    results.push_back(probe({.isa = flags.isa, .threads = threads}));
  const bool disturbed = std::any_of(results.begin(), results.end(),
                                     [](const ProbeResult& result) { return result.ceilings.disturbed; });
  if (disturbed) std::fputs("Other programs keep the cores busy: the figures are uncertain.\n", stderr);
  if (flags.json) {
    Json rows = Json::array();
    for (const ProbeResult& result : results) rows.push_back(result_json(result));
    const Json json{{"device", this_cpu().name},
                    {"isa", results.front().ceilings.isa},
                    {"cache", probe_cache_path()},
                    {"peaks", rows}};
    std::printf("%s\n", json.dump().c_str());
  } else {
    std::printf("%s, %s\n", this_cpu().name.c_str(), results.front().ceilings.isa.c_str());
    print_table(results);
  }
  return kExitDone;
}

}  // namespace

Action declare_probe(Flags& flags) {
  const auto values = std::make_shared<ProbeFlags>();
  flags.number("--threads", "Only this number of threads (default: 1, 2, 4, ... to one per core)",
               values->threads, 1, 4096);
  flags.text(
      "--isa", "NAME",
      "portable, avx2, avx2_vnni, avx512, avx512_vnni, avx512_bf16 or avx512_amx (default: the fastest "
      "that the machine has)",
      values->isa);
  flags.flag("--json", "Print one JSON object", values->json);
  return [values] { return run_probe(*values); };
}

}  // namespace redline
