// How much memory there is, asked before it is taken.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace redline {

class Ops;

/// Bytes that this process could still allocate: the least of /proc/meminfo's MemAvailable and what every
/// control group (v1 or v2) around it leaves, counting a group's file cache as free. `root` is where /proc
/// and /sys are found. INT64_MAX where nothing is known.
std::int64_t available_memory_bytes(const std::filesystem::path& root = "/");

/// The same of the memory that a backend computes in: its device's, or the host's.
std::int64_t available_memory_bytes(const Ops& ops);

/// Throws std::runtime_error "WHAT needs N GiB of memory; M GiB are available" when needed_bytes exceeds
/// available_bytes.
void require_memory(const std::string& what, std::int64_t needed_bytes, std::int64_t available_bytes);

}  // namespace redline
