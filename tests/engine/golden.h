// Reads what tests/goldens/make_model_goldens.py wrote: JSON, and NumPy arrays of format version 1.0.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace redline {

inline const std::filesystem::path kGoldens = std::filesystem::path(REDLINE_SOURCE_DIR) / "tests/goldens";

inline std::string read_golden(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path.string() + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

inline nlohmann::json read_golden_json(const std::filesystem::path& path) {
  return nlohmann::json::parse(read_golden(path));
}

/// A [rows, cols] matrix.
template <class T>
struct GoldenMatrix {
  std::int64_t rows = 0, cols = 0;
  std::vector<T> values;

  std::span<const T> row(std::int64_t r) const {
    return std::span(values).subspan(static_cast<std::size_t>(r * cols), static_cast<std::size_t>(cols));
  }
};

/// Throws std::runtime_error unless the file holds a C-ordered matrix of `descr` ("<f4"), which T stores.
template <class T>
GoldenMatrix<T> read_npy(const std::filesystem::path& path, const std::string& descr) {
  constexpr std::size_t kPrefixBytes = 10;  // magic, version, header length (u16)
  const std::string bytes = read_golden(path);
  const auto fail = [&] { throw std::runtime_error(path.string() + ": expected a matrix of " + descr); };
  if (bytes.size() < kPrefixBytes || bytes.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0) fail();
  const auto header_bytes = static_cast<std::size_t>(static_cast<unsigned char>(bytes[8]) +
                                                     256 * static_cast<unsigned char>(bytes[9]));
  const std::string header = bytes.substr(kPrefixBytes, header_bytes);
  const auto shape = header.find("'shape': (");
  long long rows = 0, cols = 0;
  if (header.find("'" + descr + "'") == std::string::npos ||
      header.find("'fortran_order': False") == std::string::npos || shape == std::string::npos ||
      std::sscanf(header.c_str() + shape, "'shape': (%lld, %lld)", &rows, &cols) != 2)
    fail();
  GoldenMatrix<T> matrix{rows, cols, std::vector<T>(static_cast<std::size_t>(rows * cols))};
  const std::size_t start = kPrefixBytes + header_bytes;
  if (bytes.size() - start != matrix.values.size() * sizeof(T)) fail();
  std::memcpy(matrix.values.data(), bytes.data() + start, bytes.size() - start);
  return matrix;
}

inline double standard_deviation(std::span<const float> values) {
  double mean = 0, square = 0;
  for (const float v : values) mean += v;
  mean /= static_cast<double>(values.size());
  for (const float v : values) square += (v - mean) * (v - mean);
  return std::sqrt(square / static_cast<double>(values.size()));
}

}  // namespace redline
