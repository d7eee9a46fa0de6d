// Which algorithm of cuBLASLt was fastest for each shape, kept in a file, so that a later start need not time
// them again.
//
// A text file: a line that names the format, the device, the driver and the library; a line for each shape,
// its name, a tab and the algorithm's 64 bytes in hex; and a last line with a checksum of all before. It is
// replaced as a whole (written beside and renamed). One that is damaged, or of another device, driver or
// library, is said so on stderr, ignored, and overwritten by the next algorithm that is added.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace redline::cuda {

/// cublasLtMatmulAlgo_t's bytes.
using AlgorithmBytes = std::array<std::uint64_t, 8>;

class AlgorithmCache {
 public:
  /// Reads `path`, if there is such a file; empty: nothing is kept. `owner` says what the algorithms belong
  /// to
  /// ("NVIDIA H100 80GB HBM3, driver 13000, cuBLASLt 130100"), without line ends.
  AlgorithmCache(std::filesystem::path path, const std::string& owner);

  std::optional<AlgorithmBytes> find(const std::string& shape) const;
  /// Remembers, and writes the file. That it cannot be written is said once on stderr. `shape` has no tabs
  /// and no line ends.
  void add(const std::string& shape, const AlgorithmBytes& algorithm);

  std::int64_t size() const { return static_cast<std::int64_t>(algorithms_.size()); }

 private:
  std::string text() const;
  void read();

  std::filesystem::path path_;
  std::string header_;
  std::map<std::string, AlgorithmBytes> algorithms_;
  bool complained_ = false;
};

/// Where the algorithms of `device` are kept: $XDG_CACHE_HOME/redline/gemm-<device>.txt, by default in
/// ~/.cache; the file that REDLINE_GEMM_CACHE names, where it is set (to nothing: none). Empty where no
/// folder is known.
std::filesystem::path algorithm_cache_path(const std::string& device);

}  // namespace redline::cuda
