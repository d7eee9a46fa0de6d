// Saved sessions: the engine's part, on the step thread.
#include <algorithm>
#include <future>
#include <stdexcept>
#include <utility>

#include "engine/engine_core.h"
#include "engine/session_file.h"

namespace redline {

void EngineCore::run_between_steps(std::function<void()> task) {
  std::packaged_task<void()> packaged(std::move(task));
  std::future<void> done = packaged.get_future();
  {
    const std::lock_guard lock(inbox_->mutex);
    if (!inbox_->failure.empty()) throw std::runtime_error("the engine has stopped: " + inbox_->failure);
    inbox_->tasks.push_back(std::move(packaged));
  }
  inbox_->arrived.notify_all();
  done.get();
}

std::int64_t EngineCore::save_session(std::span<const std::int32_t> tokens, const std::string& path) {
  std::int64_t num_saved = 0;
  run_between_steps([&] {
    const std::vector<BlockId> blocks = prefix_cache_.find("", tokens);
    num_saved = std::ssize(blocks) * prefix_cache_.block_size();
    write_session(path, session_description(model_, cache_.config(), max_context_),
                  tokens.first(static_cast<std::size_t>(num_saved)), cache_, blocks, *model_.ops);
  });
  return num_saved;
}

std::int64_t EngineCore::load_session(const std::string& path) {
  std::int64_t num_loaded = 0;
  run_between_steps([&] {
    SessionFile file(path, session_description(model_, cache_.config(), max_context_), cache_);
    const auto block_size = static_cast<std::size_t>(prefix_cache_.block_size());
    const std::size_t num_blocks = file.tokens().size() / block_size;
    if (num_blocks > static_cast<std::size_t>(blocks_.num_free()))
      throw std::runtime_error(path + ": holds " + std::to_string(num_blocks) + " blocks of cache, " +
                               std::to_string(blocks_.num_free()) + " are free: a longer --ctx would help");
    std::vector<BlockId> blocks;
    for (std::size_t i = 0; i < num_blocks; ++i) blocks.push_back(*blocks_.allocate());
    // Children before parents, as the prefix cache asks.
    const auto release = [&] {
      for (; !blocks.empty(); blocks.pop_back()) blocks_.release(blocks.back());
    };
    try {
      file.read_into(cache_, blocks, *model_.ops);
    } catch (...) {
      release();
      throw;
    }
    for (std::size_t i = 0; i < num_blocks; ++i) {
      const BlockId known =
          prefix_cache_.publish("", i == 0 ? kNoBlock : blocks[i - 1],
                                std::span(file.tokens()).subspan(i * block_size, block_size), blocks[i]);
      if (known == blocks[i]) continue;
      blocks_.share(known);
      blocks_.release(std::exchange(blocks[i], known));
    }
    release();
    num_loaded = std::ssize(file.tokens());
  });
  return num_loaded;
}

}  // namespace redline
