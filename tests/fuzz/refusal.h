// What every fuzz target asks of whatever reads a model's files: an answer, or a clear refusal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include "engine/model_file_error.h"

namespace redline {

inline constexpr const char* kFuzzedFile = "fuzzed";

/// Aborts with `message` unless it is one line of less than 600 bytes that begins with `file`.
inline void check_refusal(std::string_view message, std::string_view file) {
  if (message.size() < 600 && message.starts_with(file) && message.find('\n') == message.npos) return;
  std::fprintf(stderr, "not a clear refusal: %.*s\n", static_cast<int>(message.size()), message.data());
  std::abort();
}

/// Calls `read`, which may throw ModelFileError about `file`; any other exception ends the program. Whether
/// it returned.
template <class Read>
bool answers(Read&& read, std::string_view file = kFuzzedFile) {
  try {
    read();
    return true;
  } catch (const ModelFileError& error) {
    check_refusal(error.what(), file);
    return false;
  }
}

inline std::span<const std::byte> as_bytes(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

/// Reads every byte, so that a sanitizer sees those that are not there.
inline void read_all(std::span<const std::byte> bytes) {
  static volatile unsigned sum = 0;
  for (const std::byte byte : bytes) sum = sum + std::to_integer<unsigned>(byte);
}

}  // namespace redline
