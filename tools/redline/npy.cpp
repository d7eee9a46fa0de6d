#include "tools/redline/npy.h"

#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <stdexcept>

#include "kernels/check.h"

namespace redline {
namespace {

constexpr char kMagic[] = "\x93NUMPY\x01";  // and its terminator: version 1.0
constexpr std::size_t kPrefixBytes = 10;    // magic, version, header length (u16)
constexpr std::int64_t kMaxCols = std::int64_t{1} << 28;

}  // namespace

NpyWriter::NpyWriter(const std::string& path, std::int64_t rows, std::int64_t cols)
    : path_(path), file_(std::fopen(path.c_str(), "wb")), values_left_(rows * cols) {
  if (file_ == nullptr) throw std::runtime_error(path + ": cannot be written: " + std::strerror(errno));
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " +
                       std::to_string(cols) + "), }";
  header.append(63 - (kPrefixBytes + header.size()) % 64, ' ');
  header += '\n';
  const unsigned char length[] = {static_cast<unsigned char>(header.size() & 0xFF),
                                  static_cast<unsigned char>(header.size() >> 8)};
  std::fwrite(kMagic, 1, sizeof kMagic, file_.get());
  std::fwrite(length, 1, sizeof length, file_.get());
  std::fwrite(header.data(), 1, header.size(), file_.get());
}

void NpyWriter::write(std::span<const float> values) {
  values_left_ -= static_cast<std::int64_t>(values.size());
  REDLINE_CHECK(values_left_ >= 0, "no more values than the shape holds");
  std::fwrite(values.data(), sizeof(float), values.size(), file_.get());
}

void NpyWriter::close() {
  REDLINE_CHECK(values_left_ == 0, "as many values as the shape holds");
  const bool failed = std::ferror(file_.get()) != 0;
  const bool closed = std::fclose(file_.release()) == 0;
  if (failed || !closed) throw std::runtime_error(path_ + ": could not be written to its end");
}

NpyReader::NpyReader(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "rb")) {
  if (file_ == nullptr) fail(std::string("cannot be read: ") + std::strerror(errno));
  unsigned char prefix[kPrefixBytes];
  if (std::fread(prefix, 1, sizeof prefix, file_.get()) != sizeof prefix ||
      std::memcmp(prefix, kMagic, sizeof kMagic) != 0)
    fail("expected a NumPy file of version 1.0");
  std::string header(static_cast<std::size_t>(prefix[8] + 256 * prefix[9]), '\0');
  header.resize(std::fread(header.data(), 1, header.size(), file_.get()));
  const auto shape = header.find("'shape':");
  if (header.find("'<f4'") == std::string::npos ||
      header.find("'fortran_order': False") == std::string::npos || shape == std::string::npos ||
      std::sscanf(header.c_str() + shape, "'shape': (%" SCNd64 ", %" SCNd64 ")", &rows_, &cols_) != 2 ||
      rows_ < 0 || cols_ < 1 || cols_ > kMaxCols)
    fail("expected a matrix of '<f4' in C order, found " + header.substr(0, 120));
  row_.resize(static_cast<std::size_t>(cols_));
}

std::span<const float> NpyReader::read_row() {
  if (std::fread(row_.data(), sizeof(float), row_.size(), file_.get()) != row_.size())
    fail("ends before its " + std::to_string(rows_) + " rows of " + std::to_string(cols_));
  return row_;
}

void NpyReader::fail(const std::string& problem) const { throw std::runtime_error(path_ + ": " + problem); }

}  // namespace redline
