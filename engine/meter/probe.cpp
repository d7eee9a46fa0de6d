#include "engine/meter/probe.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/meter/hardware.h"
#include "kernels/cpu/thread_pool.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr int kFormat = 1;
constexpr double kDisturbedKeepS = 600;

std::int64_t unix_now_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// Fills in the defaults, so that they and their spelt-out forms share an entry.
std::string resolved_isa(const std::string& isa) { return isa.empty() ? ceiling_isas().front() : isa; }
int resolved_threads(int threads) { return threads > 0 ? threads : default_num_threads(); }

Json to_json(const ProbeResult& result) {
  const Ceilings& c = result.ceilings;
  Json rates = Json::object();
  for (std::size_t i = 0; i < c.ops_per_s.size(); ++i)
    if (c.ops_per_s[i] > 0) rates[kComputeTypeNames[i]] = c.ops_per_s[i];
  return {{"isa", c.isa},
          {"threads", c.threads},
          {"measured_unix_s", result.measured_unix_s},
          {"disturbed", c.disturbed},
          {"ops_per_s", rates},
          {"memory_bytes_per_s", c.memory_bytes_per_s},
          {"llc_bytes_per_s", c.llc_bytes_per_s}};
}

// Throws nlohmann::json::exception on anything that to_json would not write.
ProbeResult result_from(const Json& json) {
  ProbeResult result;
  Ceilings& c = result.ceilings;
  c.isa = json.at("isa").get<std::string>();
  c.threads = json.at("threads").get<int>();
  result.measured_unix_s = json.at("measured_unix_s").get<std::int64_t>();
  c.disturbed = json.at("disturbed").get<bool>();
  const Json& rates = json.at("ops_per_s");
  for (std::size_t i = 0; i < c.ops_per_s.size(); ++i)
    if (rates.contains(kComputeTypeNames[i])) c.ops_per_s[i] = rates.at(kComputeTypeNames[i]).get<double>();
  c.memory_bytes_per_s = json.at("memory_bytes_per_s").get<double>();
  c.llc_bytes_per_s = json.at("llc_bytes_per_s").get<double>();
  return result;
}

// Everything kept for this machine; empty when the file is missing, broken or another machine's.
std::vector<ProbeResult> read_cache() {
  std::vector<ProbeResult> results;
  try {
    std::ifstream file(probe_cache_path());
    if (!file) return {};
    const Json json = Json::parse(file);
    if (json.at("format") != kFormat || json.at("cpu") != this_cpu().key) return {};
    for (const Json& entry : json.at("entries")) results.push_back(result_from(entry));
  } catch (const Json::exception&) {
    return {};
  }
  return results;
}

// Written beside the file and renamed over it, so that a reader sees the old or the new one whole.
void write_cache(const std::vector<ProbeResult>& results) {
  const fs::path path = probe_cache_path();
  if (path.empty()) return;
  Json json = {
      {"format", kFormat}, {"cpu", this_cpu().key}, {"name", this_cpu().name}, {"entries", Json::array()}};
  for (const ProbeResult& result : results) json["entries"].push_back(to_json(result));
  std::error_code failed;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), failed);
  const fs::path beside = path.string() + "." + std::to_string(getpid());
  std::ofstream file(beside);
  file << json.dump(2) << "\n";
  file.close();
  if (file) {
    fs::rename(beside, path, failed);
  }
  if (!file || failed) fs::remove(beside, failed);
}

bool is_for(const ProbeResult& result, const std::string& isa, int threads) {
  return result.ceilings.isa == isa && result.ceilings.threads == threads;
}

}  // namespace

double ProbeResult::age_s() const {
  return static_cast<double>(std::max<std::int64_t>(0, unix_now_s() - measured_unix_s));
}

std::string probe_cache_path() {
  if (const char* file = std::getenv("REDLINE_PROBE_CACHE"); file && *file) return file;
  const std::string name = "/redline/probe-" + this_cpu().key + ".json";
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache == '/') return cache + name;
  if (const char* home = std::getenv("HOME"); home && *home) return std::string(home) + "/.cache" + name;
  return {};
}

ProbeResult probe(CeilingOptions options) {
  options.isa = resolved_isa(options.isa);
  options.threads = resolved_threads(options.threads);
  if (options.llc_bytes == 0) options.llc_bytes = this_cpu().llc_bytes;
  const ProbeResult result{measure_ceilings(options), unix_now_s()};
  std::vector<ProbeResult> kept = read_cache();
  std::erase_if(kept, [&](const ProbeResult& old) { return is_for(old, options.isa, options.threads); });
  kept.push_back(result);
  write_cache(kept);
  return result;
}

std::optional<ProbeResult> kept_probe(const std::string& isa, int threads) {
  for (ProbeResult& result : read_cache()) {
    if (!is_for(result, resolved_isa(isa), resolved_threads(threads))) continue;
    if (!result.ceilings.disturbed || result.age_s() < kDisturbedKeepS) return std::move(result);
  }
  return std::nullopt;
}

ProbeResult kept_or_new_probe(const std::string& isa, int threads) {
  if (auto kept = kept_probe(isa, threads)) return *std::move(kept);
  return probe({.isa = isa, .threads = threads});
}

DevicePeaks peaks_of(const ProbeResult& result) {
  const Ceilings& c = result.ceilings;
  const CpuDescription& cpu = this_cpu();
  const std::string source = "measured by redline probe (" + c.isa + ", " + std::to_string(c.threads) +
                             (c.threads == 1 ? " thread" : " threads") +
                             (c.disturbed ? ", on a busy machine)" : ")");
  const auto rate = [&](double per_s) {
    PeakRate r;
    r.attainable = per_s;
    if (per_s <= 0) return r;
    r.source = source;
    r.age_s = result.age_s();
    return r;
  };
  DevicePeaks device;
  device.device_name = cpu.name;
  device.threads = c.threads;
  for (std::size_t i = 0; i < c.ops_per_s.size(); ++i) device.compute[i] = rate(c.ops_per_s[i]);
  device.bandwidth = rate(c.memory_bytes_per_s);
  device.llc_bytes = cpu.llc_bytes;
  return device;
}

DevicePeaks peaks_for(Ops& ops) {
  const std::string name = ops.name(), cpu = "cpu ", cuda = "cuda ";
  if (name.starts_with(cpu)) return peaks_of(kept_or_new_probe(name.substr(cpu.size()), ops.num_threads()));
  DevicePeaks device;
  const HardwareSpec* spec = nullptr;
  if (name.starts_with(cuda)) spec = find_hardware(name.substr(cuda.size()));
  if (spec != nullptr) device = peaks_of(*spec);
  device.device_name = name;
  const std::optional<Peaks> measured = ops.measure_peaks();
  if (!measured) return device;
  for (std::size_t i = 0; i < device.compute.size(); ++i) device.compute[i].attainable = measured->flops[i];
  device.bandwidth.attainable = measured->bandwidth;
  device.bandwidth.age_s = 0.0;
  return device;
}

}  // namespace redline
