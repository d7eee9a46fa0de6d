// Times a model step by step, without scheduler and sampler, as llama-bench does.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/logits.h"
#include "engine/meter/pictures.h"
#include "engine/meter/trace.h"
#include "engine/meter/utilization.h"
#include "engine/model.h"
#include "kvcache/kv_cache.h"

namespace redline {

/// One row: each of `batch` sequences, with `depth` tokens cached, prefills `num_prompt` tokens or decodes
/// `num_generated` one by one; the other is 0.
struct BenchTest {
  std::int64_t num_prompt = 0;
  std::int64_t num_generated = 0;
  std::int64_t depth = 0;
  std::int64_t batch = 1;

  std::int64_t num_tokens() const { return num_prompt + num_generated; }
};

/// What a row's steps did.
struct BenchRecord {
  UtilizationMeter meter;
  std::vector<MeteredStep> steps{};  // times after the BenchRun was made
  TraceWriter* trace = nullptr;      // null: there is none
};

/// One model and one cache for every row; random tokens. Not thread-safe.
class BenchRun {
 public:
  /// A cache for `batch` sequences of `tokens` tokens at most. Throws std::runtime_error with both numbers
  /// when memory will not hold it.
  BenchRun(LoadedModel& model, DType kv_dtype, std::int64_t batch, std::int64_t tokens);

  /// Fills the cache to the test's depth and runs it once, untimed.
  void warm_up(const BenchTest& test);
  /// Runs the test once: its seconds, every step added to `record`.
  double measure(const BenchTest& test, BenchRecord& record);

 private:
  void prefill(std::int64_t batch, std::int64_t first, std::int64_t count, BenchRecord* record);
  void decode(std::int64_t batch, std::int64_t position, BenchRecord* record);
  void step(BenchRecord* record);

  LoadedModel& model_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  KvCache cache_;
  std::int64_t capacity_ = 0;  // tokens of a sequence
  std::vector<BlockTable> blocks_;
  std::vector<std::int32_t> tokens_;  // [capacity], the same for every sequence
  Model transformer_;
  Batch batch_;
  Logits logits_;
};

}  // namespace redline
