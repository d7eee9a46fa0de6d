// A model as a GGUF file that llama.cpp, and this engine, read alike.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "engine/checkpoint.h"
#include "kernels/dtype.h"

namespace redline {

struct ExportOptions {
  std::optional<DType> dtype;  // of every matrix; absent: each keeps its type
  int num_threads = 1;         // that convert
  std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)> progress;
};

/// Writes `checkpoint` to `path`. A GGUF's keys stay as they are but for those of its types. Throws
/// ModelFileError for what GGUF has no words for (windows of some layers only, a pre-tokenizer without a
/// name, f8_e4m3) or where the type's block does not divide a row; std::runtime_error where the file cannot
/// be written.
void export_gguf(const Checkpoint& checkpoint, const std::filesystem::path& path,
                 const ExportOptions& options);

/// Writes random_weights(config, options.dtype, seed), for benchmarks: without a tokenizer. Requires a type.
/// Throws as above, std::invalid_argument where the type's block does not divide a row.
void export_gguf(const ModelConfig& config, std::uint64_t seed, const std::filesystem::path& path,
                 const ExportOptions& options);

}  // namespace redline
