#include "tools/redline/bench_run.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include "engine/cache_size.h"
#include "engine/memory.h"
#include "engine/meter/padding.h"

namespace redline {
namespace {

constexpr std::int64_t kChunkTokens = 512;  // of a prefill step, as llama-bench's -ub
constexpr std::uint32_t kSeed = 1;

using Clock = std::chrono::steady_clock;

KvCache cache_for(LoadedModel& model, DType kv_dtype, std::int64_t batch, std::int64_t tokens) {
  EngineOptions wish;
  wish.kv_dtype = kv_dtype;
  const std::int64_t blocks_each = (tokens + wish.block_size - 1) / wish.block_size;
  wish.max_context = batch * blocks_each * wish.block_size;
  wish.max_sequences = 1;
  return make_cache(plan_cache(model.config, wish, available_memory_bytes(*model.ops)).cache, *model.ops);
}

}  // namespace

BenchRun::BenchRun(LoadedModel& model, DType kv_dtype, std::int64_t batch, std::int64_t tokens)
    : model_(model),
      cache_(cache_for(model, kv_dtype, batch, tokens)),
      capacity_(tokens),
      blocks_(static_cast<std::size_t>(batch)),
      tokens_(static_cast<std::size_t>(tokens)),
      transformer_(model.config, *model.weights),
      batch_(cache_.config().block_size, cache_.config().num_blocks),
      logits_(model.config.vocab_size) {
  transformer_.reserve(*model.ops, kChunkTokens, tokens);
  logits_.reserve(*model.ops, batch);
  std::int32_t next_block = kTrashBlock + 1;
  const auto blocks_each =
      static_cast<std::size_t>((tokens + cache_.config().block_size - 1) / cache_.config().block_size);
  for (BlockTable& table : blocks_) {
    table.resize(blocks_each);
    std::iota(table.begin(), table.end(), next_block);
    next_block += static_cast<std::int32_t>(blocks_each);
  }
  std::mt19937 random(kSeed);
  std::uniform_int_distribution<std::int32_t> token(0,
                                                    static_cast<std::int32_t>(model.config.vocab_size) - 1);
  for (std::int32_t& id : tokens_) id = token(random);
}

void BenchRun::step(BenchRecord* record) {
  const auto start = Clock::now();
  const BatchView view = batch_.view();
  model_.ops->begin_step(view);
  transformer_.forward(*model_.ops, view, cache_, logits_.rows(*model_.ops, view.num_logit_rows()));
  const StepCounts& counts = model_.ops->end_step();
  const auto end = Clock::now();
  if (record == nullptr) return;
  const auto wall = std::chrono::duration_cast<std::chrono::nanoseconds>(end - start);
  StepRecord done;
  done.counts = &counts;
  done.start_ns = std::chrono::nanoseconds(start.time_since_epoch()).count();
  done.wall_ns = wall.count();
  done.padding = padding_of(*model_.ops, view, counts, cache_.config().dtype);
  record->meter.add_step(done);
  if (record->trace) record->trace->add_step(done);
  const DevicePeaks& device = record->meter.peaks();
  const Peaks peaks = device.vendor().bandwidth > 0 ? device.vendor() : device.attainable();
  for (const MeteredStep& each :
       metered_steps(counts, std::chrono::duration<double>(end - start_).count(), peaks))
    record->steps.push_back(each);
}

void BenchRun::prefill(std::int64_t batch, std::int64_t first, std::int64_t count, BenchRecord* record) {
  std::int64_t room = kChunkTokens;
  batch_.clear();
  for (std::int64_t sequence = 0; sequence < batch; ++sequence) {
    for (std::int64_t done = 0; done < count;) {
      const std::int64_t num_new = std::min(room, count - done);
      batch_.add({.tokens = std::span(tokens_).subspan(static_cast<std::size_t>(first + done),
                                                       static_cast<std::size_t>(num_new)),
                  .num_cached = static_cast<std::int32_t>(first + done),
                  .blocks = &blocks_[static_cast<std::size_t>(sequence)],
                  .phase = Phase::kPrefill,
                  .logits = done + num_new == count ? LogitRows::kLast : LogitRows::kNone});
      done += num_new;
      room -= num_new;
      if (room > 0) continue;
      step(record);
      batch_.clear();
      room = kChunkTokens;
    }
  }
  if (room < kChunkTokens) step(record);
}

void BenchRun::decode(std::int64_t batch, std::int64_t position, BenchRecord* record) {
  batch_.clear();
  for (std::int64_t sequence = 0; sequence < batch; ++sequence)
    batch_.add({.tokens = std::span(tokens_).subspan(static_cast<std::size_t>(position), 1),
                .num_cached = static_cast<std::int32_t>(position),
                .blocks = &blocks_[static_cast<std::size_t>(sequence)],
                .phase = Phase::kDecode,
                .logits = LogitRows::kLast});
  step(record);
}

void BenchRun::warm_up(const BenchTest& test) {
  REDLINE_CHECK(test.depth + test.num_tokens() <= capacity_, "the test fits the cache");
  if (test.depth > 0) prefill(test.batch, 0, test.depth, nullptr);
  if (test.num_prompt > 0)
    prefill(test.batch, test.depth, test.num_prompt, nullptr);
  else
    decode(test.batch, test.depth, nullptr);
}

double BenchRun::measure(const BenchTest& test, BenchRecord& record) {
  const auto start = Clock::now();
  if (test.num_prompt > 0) prefill(test.batch, test.depth, test.num_prompt, &record);
  for (std::int64_t i = 0; i < test.num_generated; ++i) decode(test.batch, test.depth + i, &record);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace redline
