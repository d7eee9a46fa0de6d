#include "kernels/cuda/algorithm_cache.h"

#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

namespace redline::cuda {
namespace {

constexpr std::string_view kFormat = "redline cuBLASLt algorithms 1: ";
constexpr std::string_view kChecksum = "checksum ";
constexpr std::size_t kHexDigits = 16;  // of a word

// FNV-1a.
std::uint64_t checksum(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::string hex(std::uint64_t word) {
  char digits[kHexDigits + 1];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(word));
  return digits;
}

std::optional<std::uint64_t> from_hex(std::string_view digits) {
  std::uint64_t word = 0;
  if (digits.size() != kHexDigits) return std::nullopt;
  for (const char c : digits) {
    if (!std::isxdigit(static_cast<unsigned char>(c))) return std::nullopt;
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    word = word << 4 | static_cast<std::uint64_t>(digit);
  }
  return word;
}

// The line up to the next line end, which is taken off `text` with it; nothing without a line end.
std::optional<std::string_view> take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return line;
}

std::optional<std::pair<std::string, AlgorithmBytes>> parse(std::string_view line) {
  const std::size_t tab = line.find('\t');
  AlgorithmBytes algorithm{};
  if (tab == 0 || tab == std::string_view::npos || line.size() != tab + 1 + algorithm.size() * kHexDigits)
    return std::nullopt;
  for (std::size_t i = 0; i < algorithm.size(); ++i) {
    const auto word = from_hex(line.substr(tab + 1 + i * kHexDigits, kHexDigits));
    if (!word) return std::nullopt;
    algorithm[i] = *word;
  }
  return std::pair(std::string(line.substr(0, tab)), algorithm);
}

}  // namespace

AlgorithmCache::AlgorithmCache(std::filesystem::path path, const std::string& owner)
    : path_(std::move(path)), header_(std::string(kFormat) + owner) {
  if (!path_.empty()) read();
}

std::optional<AlgorithmBytes> AlgorithmCache::find(const std::string& shape) const {
  const auto found = algorithms_.find(shape);
  return found == algorithms_.end() ? std::nullopt : std::optional(found->second);
}

std::string AlgorithmCache::text() const {
  std::string text = header_ + "\n";
  for (const auto& [shape, algorithm] : algorithms_) {
    text += shape + "\t";
    for (const std::uint64_t word : algorithm) text += hex(word);
    text += "\n";
  }
  return text + std::string(kChecksum) + hex(checksum(text)) + "\n";
}

void AlgorithmCache::read() {
  std::ifstream file(path_, std::ios::binary);
  if (!file) return;
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  const auto ignore = [&](const char* why) {
    algorithms_.clear();
    std::fprintf(stderr, "redline: %s is ignored: %s\n", path_.c_str(), why);
  };
  std::string_view text = all;
  const auto header = take_line(text);
  if (!header || !header->starts_with(kFormat)) return ignore("it holds no cuBLASLt algorithms");
  if (*header != header_) return ignore("its algorithms are of another device, driver or library");
  while (const auto line = take_line(text)) {
    if (line->starts_with(kChecksum)) {
      const std::string_view before(all.data(), static_cast<std::size_t>(line->data() - all.data()));
      if (!text.empty() || from_hex(line->substr(kChecksum.size())) != checksum(before))
        return ignore("it is damaged");
      return;
    }
    auto entry = parse(*line);
    if (!entry) return ignore("it is damaged");
    algorithms_.insert(std::move(*entry));
  }
  ignore("it is damaged");  // it has no end
}

void AlgorithmCache::add(const std::string& shape, const AlgorithmBytes& algorithm) {
  algorithms_[shape] = algorithm;
  if (path_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(path_.parent_path(), error);
  std::filesystem::path beside = path_;
  beside += "." + std::to_string(::getpid());
  const std::string all = text();
  bool written = false;
  {
    std::ofstream file(beside, std::ios::binary | std::ios::trunc);
    file.write(all.data(), static_cast<std::streamsize>(all.size()));
    written = file.flush().good();
  }
  if (written) std::filesystem::rename(beside, path_, error);
  if (written && !error) return;
  std::filesystem::remove(beside, error);
  if (!std::exchange(complained_, true))
    std::fprintf(stderr, "redline: %s cannot be written: algorithms will be timed again\n", path_.c_str());
}

std::filesystem::path algorithm_cache_path(const std::string& device) {
  if (const char* named = std::getenv("REDLINE_GEMM_CACHE")) return named;
  std::string name = "gemm-";
  for (const char c : device)
    name += std::isalnum(static_cast<unsigned char>(c)) ? static_cast<char>(std::tolower(c)) : '-';
  const std::filesystem::path file = std::filesystem::path("redline") / (name + ".txt");
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache == '/') return cache / file;
  if (const char* home = std::getenv("HOME"); home && *home == '/')
    return std::filesystem::path(home) / ".cache" / file;
  return {};
}

}  // namespace redline::cuda
