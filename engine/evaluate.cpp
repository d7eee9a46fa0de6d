#include "engine/evaluate.h"

#include <algorithm>
#include <numeric>

#include "engine/batch.h"
#include "engine/cache_size.h"
#include "engine/logits.h"
#include "engine/memory.h"
#include "engine/model.h"
#include "engine/weights.h"

namespace redline {

void for_each_logits(LoadedModel& model, std::span<const std::int32_t> tokens, const EvaluateOptions& options,
                     const std::function<void(std::int64_t, std::span<const float>)>& visit,
                     const StepObserver& observer) {
  EngineOptions wish;
  wish.kv_dtype = options.kv_dtype;
  wish.max_context = std::ssize(tokens);
  wish.max_sequences = 1;
  const CacheSize size = plan_cache(model.config, wish, available_memory_bytes(*model.ops));
  KvCache cache = make_cache(size.cache, *model.ops);
  BlockTable blocks(static_cast<std::size_t>(size.cache.num_blocks) - 1);
  std::iota(blocks.begin(), blocks.end(), kTrashBlock + 1);
  Batch batch(size.cache.block_size, size.cache.num_blocks);
  Model transformer(model.config, *model.weights, size.max_context);
  const auto vocab_size = static_cast<std::size_t>(model.config.vocab_size);
  Logits logits(model.config.vocab_size);
  transformer.reserve(*model.ops, std::min<std::int64_t>(options.chunk_tokens, std::ssize(tokens)),
                      size.max_context);

  for (std::size_t done = 0; done < tokens.size();) {
    const auto num_new =
        std::min<std::size_t>(tokens.size() - done, static_cast<std::size_t>(options.chunk_tokens));
    const auto start = std::chrono::steady_clock::now();
    batch.clear();
    batch.add({.tokens = tokens.subspan(done, num_new),
               .num_cached = static_cast<std::int32_t>(done),
               .blocks = &blocks,
               .logits = LogitRows::kAll});
    const BatchView view = batch.view();
    model.ops->begin_step(view);
    transformer.forward(*model.ops, view, cache, logits.rows(*model.ops, view.num_logit_rows()));
    const StepCounts& counts = model.ops->end_step();
    if (observer) {
      StepRecord record;
      record.counts = &counts;
      record.wall_ns =
          std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start)
              .count();
      record.num_prefill_tokens = static_cast<std::int64_t>(num_new);
      record.num_sequences = 1;
      observer(record);
    }
    const TensorView rows = logits.on_host(*model.ops);
    for (std::size_t i = 0; i < num_new; ++i)
      visit(static_cast<std::int64_t>(done + i),
            std::span(rows.f32(static_cast<std::int64_t>(i)), vocab_size));
    done += num_new;
  }
}

}  // namespace redline
