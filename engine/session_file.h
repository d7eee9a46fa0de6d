// A cached prefix on disk: its tokens and their K and V, checked when it is read.
//
// Little-endian: "RLSESSN1", u64 length of the description, the description (text, compared as a whole with
// the reader's own: whose K and V these are), u64 number of tokens, i32 token ids, K and V of each block,
// layer by layer as they lie in the cache, u64 checksum of all before.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "kvcache/kv_cache.h"

namespace redline {

/// What must agree for K and V to be reused bit for bit: the model's shape and a sample of its weights, the
/// cache's type and layout, the backend that computed them. `max_context` counts where the rotary embedding
/// depends on it.
std::string session_description(const LoadedModel& model, const KvCacheConfig& cache,
                                std::int64_t max_context);

/// Writes `blocks` full blocks, which hold `tokens` [blocks.size() * block_size]. The file appears under its
/// name once it is whole. Throws std::runtime_error naming it.
void write_session(const std::string& path, const std::string& description,
                   std::span<const std::int32_t> tokens, const KvCache& cache,
                   std::span<const std::int32_t> blocks, Ops& ops);

/// A file to read from. Everything but K and V is checked by the constructor.
class SessionFile {
 public:
  /// Throws ModelFileError where the file is broken, or of something else than `description` says.
  SessionFile(const std::string& path, const std::string& description, const KvCache& cache);
  ~SessionFile();
  SessionFile(const SessionFile&) = delete;
  SessionFile& operator=(const SessionFile&) = delete;

  /// Of whole blocks.
  const std::vector<std::int32_t>& tokens() const { return tokens_; }
  /// Reads K and V of all blocks into `blocks`. Throws ModelFileError where the checksum disagrees: what was
  /// read is worth nothing then.
  void read_into(const KvCache& cache, std::span<const std::int32_t> blocks, Ops& ops);

 private:
  class Input;
  std::unique_ptr<Input> input_;
  std::vector<std::int32_t> tokens_;
};

}  // namespace redline
