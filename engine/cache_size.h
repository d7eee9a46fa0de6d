// How much cache an engine takes, decided before any of it is asked for.
#pragma once

#include <cstdint>

#include "engine/engine.h"
#include "kvcache/kv_cache.h"

namespace redline {

struct CacheSize {
  KvCacheConfig cache;
  std::int64_t max_context = 0;  // tokens of the longest sequence
};

/// Fits the cache into `available_bytes`. Without a wish in `options`, the longest sequence is the model's
/// own and the cache holds as many of them as a quarter of the memory does, at least one; where not even one
/// fits, the context shrinks. Throws std::runtime_error, with both numbers, where a wish does not fit.
CacheSize plan_cache(const ModelConfig& config, const EngineOptions& options, std::int64_t available_bytes);

/// A cache of `config`'s shape in the memory, and in the layout, of `ops`.
KvCache make_cache(KvCacheConfig config, Ops& ops);

}  // namespace redline
