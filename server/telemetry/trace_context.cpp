#include "server/telemetry/trace_context.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace redline::server {
namespace {

constexpr std::size_t kTraceAt = 3, kParentAt = 36, kFlagsAt = 53, kLength = 55;

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;  // the standard allows no capitals
}

template <std::size_t kCount>
bool read_hex(std::string_view digits, std::array<std::uint8_t, kCount>& bytes) {
  for (std::size_t i = 0; i < kCount; ++i) {
    const int high = digit_of(digits[2 * i]), low = digit_of(digits[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return true;
}

bool is_zero(auto bytes) {
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

template <std::size_t kCount>
std::array<std::uint8_t, kCount> random_bytes() {
  static thread_local std::mt19937_64 random{(std::uint64_t{std::random_device()()} << 32) ^
                                             std::random_device()()};
  std::array<std::uint8_t, kCount> bytes;
  do {
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  } while (is_zero(bytes));
  return bytes;
}

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view header) {
  std::array<std::uint8_t, 1> version{}, flags{};
  TraceContext context;
  if (header.size() < kLength || header[2] != '-' || header[kParentAt - 1] != '-' ||
      header[kFlagsAt - 1] != '-')
    return std::nullopt;
  if (!read_hex(header.substr(0), version) || !read_hex(header.substr(kTraceAt), context.trace) ||
      !read_hex(header.substr(kParentAt), context.parent) || !read_hex(header.substr(kFlagsAt), flags))
    return std::nullopt;
  // A later version may have more to say after a dash; ff is none.
  if (version[0] == 0xff || (header.size() > kLength && (version[0] == 0 || header[kLength] != '-')))
    return std::nullopt;
  if (is_zero(context.trace) || is_zero(context.parent)) return std::nullopt;
  context.is_sampled = (flags[0] & 1) != 0;
  return context;
}

TraceId new_trace_id() { return random_bytes<16>(); }

SpanId new_span_id() { return random_bytes<8>(); }

std::string hex(const std::uint8_t* bytes, std::size_t count) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

// The last 56 bits of an id are random, by the standard.
bool Sampler::samples(const TraceId& trace, const std::optional<TraceContext>& caller) const {
  if (follows_parent && caller) return caller->is_sampled;
  double place = 0;
  for (std::size_t i = 9; i < trace.size(); ++i) place = place * 256 + trace[i];
  return share >= 1 || std::ldexp(place, -56) < share;
}

}  // namespace redline::server
