#include "engine/memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "kernels/ops.h"

namespace redline {
namespace {

constexpr std::int64_t kUnknown = std::numeric_limits<std::int64_t>::max();

// The number after `key` at the start of a line of `file`.
std::optional<std::int64_t> keyed_number(const std::filesystem::path& file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string word;
    std::int64_t value = 0;
    if (words >> word >> value && word == key) return value;
  }
  return std::nullopt;
}

// Nothing for "max" and for an absent file.
std::optional<std::int64_t> whole_number(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

struct GroupFiles {
  const char *limit, *usage, *active_cache, *inactive_cache;
};
constexpr GroupFiles kV1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file",
                            "total_inactive_file"};
constexpr GroupFiles kV2 = {"memory.max", "memory.current", "active_file", "inactive_file"};

// What the group at `folder` and those above it, up to `mount`, leave.
std::int64_t group_room(const std::filesystem::path& mount, std::filesystem::path folder,
                        const GroupFiles& files) {
  std::int64_t room = kUnknown;
  for (;; folder = folder.parent_path()) {
    const auto limit = whole_number(folder / files.limit), usage = whole_number(folder / files.usage);
    if (limit && usage) {
      const auto statistics = folder / "memory.stat";
      const auto cache = keyed_number(statistics, files.active_cache).value_or(0) +
                         keyed_number(statistics, files.inactive_cache).value_or(0);
      room = std::min(room, std::max<std::int64_t>(*limit - std::max<std::int64_t>(*usage - cache, 0), 0));
    }
    if (folder == mount || !folder.has_relative_path()) return room;
  }
}

// The lowest group that can be seen: within a container /proc may name a path that is not mounted there.
std::filesystem::path visible_group(const std::filesystem::path& mount, const std::string& group) {
  const auto folder = mount / std::filesystem::path(group).relative_path();
  std::error_code error;
  return std::filesystem::is_directory(folder, error) ? folder.lexically_normal() : mount;
}

// What all control groups of memory around this process leave.
std::int64_t groups_room(const std::filesystem::path& root) {
  std::int64_t room = kUnknown;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:path
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && controllers != "memory") continue;
    const auto mount = root / (v2 ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    const auto folder = visible_group(mount, line.substr(second + 1));
    room = std::min(room, group_room(mount, folder, v2 ? kV2 : kV1));
  }
  return room;
}

std::int64_t machine_room(const std::filesystem::path& root) {
  const auto kib = keyed_number(root / "proc/meminfo", "MemAvailable:");
  return kib ? *kib * 1024 : kUnknown;
}

}  // namespace

std::int64_t available_memory_bytes(const std::filesystem::path& root) {
  return std::min(machine_room(root), groups_room(root));
}

std::optional<std::int64_t> data_limit_bytes(const std::filesystem::path& root) {
  constexpr std::int64_t kLeast = 64 << 20;
  const std::int64_t room = groups_room(root);
  if (room >= machine_room(root)) return std::nullopt;
  const auto status = root / "proc/self/status";
  const auto held = keyed_number(status, "RssAnon:"), mapped = keyed_number(status, "VmData:");
  if (!held || !mapped) return std::nullopt;
  return std::max(*held * 1024 + room - room / 16, *mapped * 1024 + kLeast);
}

void limit_data_to_groups() {
  const auto bytes = data_limit_bytes();
  rlimit limit{};
  if (!bytes || ::getrlimit(RLIMIT_DATA, &limit) != 0 || limit.rlim_cur <= static_cast<rlim_t>(*bytes))
    return;
  limit.rlim_cur = static_cast<rlim_t>(*bytes);
  ::setrlimit(RLIMIT_DATA, &limit);
}

std::int64_t available_memory_bytes(const Ops& ops) {
  const std::optional<std::int64_t> device = ops.free_device_bytes();
  return device ? *device : available_memory_bytes();
}

void require_memory(const std::string& what, std::int64_t needed_bytes, std::int64_t available_bytes) {
  if (needed_bytes <= available_bytes) return;
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  char text[96];
  std::snprintf(text, sizeof text, " needs %.2f GiB of memory; %.2f GiB are available",
                static_cast<double>(needed_bytes) / kGiB, static_cast<double>(available_bytes) / kGiB);
  throw std::runtime_error(what + text);
}

}  // namespace redline
