#include "engine/meter/hardware.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <map>
#include <set>
#include <vector>

namespace redline {
namespace {

constexpr double kTera = 1e12;
constexpr std::int64_t kGB = 1'000'000'000;

constexpr const char* kH100 = "NVIDIA H100 Tensor Core GPU Architecture whitepaper, dense";
constexpr const char* kH100Sheet = "NVIDIA H100 Tensor Core GPU datasheet";
constexpr const char* kH200Sheet = "NVIDIA H200 Tensor Core GPU datasheet; compute as H100 SXM, dense";
constexpr const char* kA100 = "NVIDIA A100 Tensor Core GPU datasheet, dense";
constexpr const char* kL40S = "NVIDIA L40S datasheet, dense";
constexpr const char* kL4 = "NVIDIA L4 datasheet, half of the figures with sparsity";
constexpr const char* kA10 = "NVIDIA A10 datasheet, dense";
constexpr const char* kB200 =
    "NVIDIA DGX B200 datasheet, an eighth of the system; half of the figures with sparsity";

struct Published {
  double fp32, half, int8, fp64;  // tera per second; half: fp16 and bf16 on the tensor cores
};

HardwareSpec device(const char* id, const char* name, const char* driver_name, const Published& rates,
                    const char* source, double terabytes_per_s, const char* bandwidth_source,
                    std::int64_t memory_gb, double clock_mhz = 0) {
  HardwareSpec spec;
  spec.id = id;
  spec.name = name;
  spec.driver_name = driver_name;
  const auto set = [&](ComputeType type, double tera) {
    if (tera > 0) spec.flops[static_cast<std::size_t>(type)] = {tera * kTera, source};
  };
  set(ComputeType::kF32, rates.fp32);
  set(ComputeType::kF16, rates.half);
  set(ComputeType::kBF16, rates.half);
  set(ComputeType::kInt8, rates.int8);
  set(ComputeType::kF64, rates.fp64);
  spec.bandwidth = {terabytes_per_s * kTera, bandwidth_source};
  spec.memory_bytes = memory_gb * kGB;
  spec.clock_hz = clock_mhz * 1e6;
  return spec;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The first processor's fields of /proc/cpuinfo.
std::map<std::string, std::string> cpuinfo() {
  std::map<std::string, std::string> fields;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::string key = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    const std::size_t value = line.find_first_not_of(' ', colon + 1);
    fields.emplace(std::move(key), value == std::string::npos ? "" : line.substr(value));
  }
  return fields;
}

std::vector<int> usable_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) cores.push_back(i);
  return cores;
}

std::int64_t parse_size(const std::string& text) {  // "32768K"
  if (text.empty() || !std::isdigit(static_cast<unsigned char>(text[0]))) return 0;
  const std::int64_t value = std::stoll(text);
  return text.back() == 'K' ? value << 10 : text.back() == 'M' ? value << 20 : value;
}

// Caches of the highest level, each counted once however many cores share it.
std::int64_t last_level_cache_bytes(const std::vector<int>& cores) {
  int top = 0;
  std::map<int, std::int64_t> bytes_by_level;
  std::set<std::string> seen;
  for (const int core : cores)
    for (int i = 0; i < 8; ++i) {
      const std::string folder =
          "/sys/devices/system/cpu/cpu" + std::to_string(core) + "/cache/index" + std::to_string(i) + "/";
      const std::string level = first_line(folder + "level");
      if (level.empty()) break;
      if (first_line(folder + "type") == "Instruction") continue;
      if (!seen.insert(level + ":" + first_line(folder + "shared_cpu_list")).second) continue;
      top = std::max(top, std::stoi(level));
      bytes_by_level[std::stoi(level)] += parse_size(first_line(folder + "size"));
    }
  return top > 0 ? bytes_by_level[top] : 0;
}

CpuDescription describe_cpu() {
  const auto info = cpuinfo();
  const auto field = [&](const char* name) {
    const auto it = info.find(name);
    return it == info.end() ? std::string() : it->second;
  };
  const std::vector<int> cores = usable_cores();
  CpuDescription cpu;
  cpu.name = field("model name");
  if (cpu.name.empty()) cpu.name = "unknown CPU";
  cpu.num_cores = std::max<int>(1, static_cast<int>(cores.size()));
  cpu.llc_bytes = last_level_cache_bytes(cores);
  cpu.memory_bytes = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  const std::string key = cpu.name + "-" + field("cpu family") + "-" + field("model") + "-" +
                          field("stepping") + "-" + std::to_string(cpu.num_cores) + "c-" +
                          std::to_string(cpu.llc_bytes >> 10) + "k";
  for (const char c : lower(key))
    if (std::isalnum(static_cast<unsigned char>(c))) {
      cpu.key += c;
    } else if (!cpu.key.empty() && cpu.key.back() != '-') {
      cpu.key += '-';
    }
  return cpu;
}

}  // namespace

Peaks HardwareSpec::peaks() const {
  Peaks peaks;
  for (std::size_t i = 0; i < flops.size(); ++i) peaks.flops[i] = flops[i].value;
  peaks.bandwidth = bandwidth.value;
  return peaks;
}

std::span<const HardwareSpec> known_hardware() {
  static const std::vector<HardwareSpec> kTable = {
      device("h100", "NVIDIA H100 SXM", "NVIDIA H100 80GB HBM3", {66.9, 989.4, 1978.9, 33.5}, kH100, 3.35,
             kH100Sheet, 80, 1830),
      device("h100-pcie", "NVIDIA H100 PCIe", "NVIDIA H100 PCIe", {51.2, 756, 1513, 25.6}, kH100, 2.0,
             kH100Sheet, 80, 1620),
      device("h200", "NVIDIA H200 SXM", "NVIDIA H200", {66.9, 989.4, 1978.9, 33.5}, kH200Sheet, 4.8,
             kH200Sheet, 141, 1830),
      device("b200", "NVIDIA B200 SXM", "NVIDIA B200", {0, 2250, 4500, 0}, kB200, 8.0, kB200, 180),
      device("a100", "NVIDIA A100 80GB SXM", "NVIDIA A100-SXM4-80GB", {19.5, 312, 624, 9.7}, kA100, 2.039,
             kA100, 80, 1410),
      device("a100-40gb", "NVIDIA A100 40GB SXM", "NVIDIA A100-SXM4-40GB", {19.5, 312, 624, 9.7}, kA100,
             1.555, kA100, 40, 1410),
      device("l40s", "NVIDIA L40S", "NVIDIA L40S", {91.6, 362.05, 733, 0}, kL40S, 0.864, kL40S, 48),
      device("l4", "NVIDIA L4", "NVIDIA L4", {30.3, 121, 242.5, 0}, kL4, 0.3, kL4, 24, 2040),
      device("a10", "NVIDIA A10", "NVIDIA A10", {31.2, 125, 250, 0}, kA10, 0.6, kA10, 24, 1695),
  };
  return kTable;
}

const HardwareSpec* find_hardware(std::string_view text) {
  const std::string wanted = lower(text);
  for (const HardwareSpec& spec : known_hardware())
    if (wanted == spec.id || wanted == lower(spec.name) || wanted == lower(spec.driver_name)) return &spec;
  return nullptr;
}

const CpuDescription& this_cpu() {
  static const CpuDescription kCpu = describe_cpu();
  return kCpu;
}

}  // namespace redline
