// Flags that several commands share, and the files that they name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/meter/device_sensors.h"
#include "tools/redline/flags.h"

namespace redline {

void add_model_argument(Flags& flags, std::string& model, bool required = true);

/// What a model is called: its file's or directory's name, without ".gguf".
std::string model_name(const std::string& reference);

/// In what precision a model runs, and on what.
struct ModelFlags {
  std::optional<DType> dtype;
  std::int32_t threads = 0;
  std::string device = "cpu";

  void add_to(Flags& flags);
  ModelOptions options() const;
};

/// Of what --device names.
std::unique_ptr<DeviceSensors> sensors_of(const std::string& device);

/// How much is kept for attention, and how.
struct CacheFlags {
  EngineOptions options;

  void add_to(Flags& flags);
};

/// How many sequences share a step: of commands that run many at a time.
void add_batch_flags(Flags& flags, EngineOptions& options);
/// At what pace they should decode.
void add_pace_flag(Flags& flags, EngineOptions& options);

/// How tokens are chosen and when an answer ends.
struct SamplingFlags {
  SamplingParams params;
  std::int64_t max_tokens = 0;
  std::vector<std::string> logit_bias;

  void add_to(Flags& flags);
  SamplingParams sampling() const;
};

/// A file's bytes. Throws std::runtime_error naming it.
std::string read_file(const std::string& path);
/// Standard input to its end.
std::string read_standard_input();
/// A JSON array of token ids. Throws std::runtime_error naming the file and what is wrong in it.
std::vector<std::int32_t> read_token_ids(const std::string& path);

}  // namespace redline
