// How much memory there is, asked before it is taken.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace redline {

class Ops;

/// Bytes that this process could still allocate: the least of /proc/meminfo's MemAvailable and what every
/// control group (v1 or v2) around it leaves, counting a group's file cache as free. `root` is where /proc
/// and /sys are found. INT64_MAX where nothing is known.
std::int64_t available_memory_bytes(const std::filesystem::path& root = "/");

/// The bytes of data (RLIMIT_DATA) beyond which this process might outgrow a control group around it, which
/// would end it: what it holds now and what the groups leave, less a sixteenth for what the kernel counts
/// besides, but 64 MiB more than what is mapped now at least. Nothing where the machine leaves no more than
/// the groups do.
std::optional<std::int64_t> data_limit_bytes(const std::filesystem::path& root = "/");

/// Sets that limit, where there is one: an allocation that would end the process then fails instead. What it
/// maps at its start should be mapped by then.
void limit_data_to_groups();

/// available_memory_bytes of the memory that a backend computes in: its device's, or the host's.
std::int64_t available_memory_bytes(const Ops& ops);

/// Throws std::runtime_error "WHAT needs N GiB of memory; M GiB are available" when needed_bytes exceeds
/// available_bytes.
void require_memory(const std::string& what, std::int64_t needed_bytes, std::int64_t available_bytes);

}  // namespace redline
