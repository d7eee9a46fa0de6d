// NumPy's .npy files, format version 1.0: little-endian f32 matrices in C order.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace redline {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, CloseFile>;

/// Writes a [rows, cols] matrix row by row. Throws std::runtime_error naming the file.
class NpyWriter {
 public:
  NpyWriter(const std::string& path, std::int64_t rows, std::int64_t cols);
  void write(std::span<const float> values);
  /// Requires every value written; fails where the disk did.
  void close();

 private:
  std::string path_;
  FileHandle file_;
  std::int64_t values_left_ = 0;
};

/// Reads a [rows, cols] matrix row by row. Throws std::runtime_error naming the file, with what was expected
/// and found.
class NpyReader {
 public:
  explicit NpyReader(const std::string& path);
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  /// The next row, valid until the next call.
  std::span<const float> read_row();

 private:
  [[noreturn]] void fail(const std::string& problem) const;

  std::string path_;
  FileHandle file_;
  std::int64_t rows_ = 0, cols_ = 0;
  std::vector<float> row_;
};

}  // namespace redline
