// A block's shared memory: one arena, poisoned with NaN bytes for each block, red zones between allocations.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/emulation/block.h"
#if REDLINE_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace redline::cuda::emulation {
namespace {

constexpr int kPoison = 0xff;
constexpr unsigned char kCanary = 0xa5;  // in red zones, where ASan does not guard them

std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

// Aligned so that a shared address is as aligned as the pointer that it stands for.
Block::Block() : arena_(static_cast<unsigned char*>(std::aligned_alloc(4096, kArenaBytes))) {
  if (!arena_) throw std::bad_alloc();
  std::memset(arena_, kCanary, kArenaBytes);
}

void Block::reset_shared() {
  [[maybe_unused]] const std::size_t dirty = std::min(used_bytes_ + kRedZoneBytes, kArenaBytes);
  used_bytes_ = dynamic_bytes_;
  statics_.clear();
  stats.shared_bytes_max = std::max<std::uint64_t>(stats.shared_bytes_max, dynamic_bytes_);
#if REDLINE_EMULATION_ASAN
  __asan_unpoison_memory_region(arena_, kArenaBytes);
  std::memset(arena_, kPoison, dynamic_bytes_);
  __asan_poison_memory_region(arena_ + dynamic_bytes_, kArenaBytes - dynamic_bytes_);
#else
  std::memset(arena_, kPoison, dynamic_bytes_);
  if (dirty > dynamic_bytes_) std::memset(arena_ + dynamic_bytes_, kCanary, dirty - dynamic_bytes_);
#endif
}

void* Block::allocate_static(std::size_t bytes, std::size_t align) {
  const std::size_t offset = round_up(used_bytes_ + kRedZoneBytes, std::max<std::size_t>(align, 16));
  std::size_t total = dynamic_bytes_ + bytes;
  for (const Range& range : statics_) total += range.bytes;
  if (total > config().shared_memory_limit_bytes || offset + bytes + kRedZoneBytes > kArenaBytes) {
    fail(text("shared memory: ", total, " bytes are over the limit of ", config().shared_memory_limit_bytes));
  }
  used_bytes_ = offset + bytes;
  statics_.push_back({offset, bytes});
  stats.shared_bytes_max = std::max<std::uint64_t>(stats.shared_bytes_max, total);
#if REDLINE_EMULATION_ASAN
  __asan_unpoison_memory_region(arena_ + offset, bytes);
#endif
  std::memset(arena_ + offset, kPoison, bytes);
  return arena_ + offset;
}

std::string Block::overrun() const {
#if !REDLINE_EMULATION_ASAN
  std::size_t begin = dynamic_bytes_;
  const auto first_written = [&](std::size_t end) {
    return std::find_if(arena_ + begin, arena_ + end, [](unsigned char byte) { return byte != kCanary; });
  };
  for (std::size_t i = 0; i <= statics_.size(); ++i) {
    const std::size_t end =
        i < statics_.size() ? statics_[i].offset : std::min(begin + kRedZoneBytes, kArenaBytes);
    const unsigned char* const written = first_written(end);
    if (written != arena_ + end) {
      return text("shared memory written out of bounds at offset ", written - arena_,
                  " (dynamic: ", dynamic_bytes_, " bytes)");
    }
    if (i < statics_.size()) begin = statics_[i].offset + statics_[i].bytes;
  }
#endif
  return {};
}

bool Block::in_shared(const void* data, std::size_t bytes) const {
  const auto* const first = static_cast<const unsigned char*>(data);
  return first >= arena_ && first + bytes <= arena_ + used_bytes_;
}

std::uint32_t Block::shared_address(const void* data) const {
  return static_cast<std::uint32_t>(static_cast<const unsigned char*>(data) - arena_);
}

unsigned char* dynamic_shared() { return running_block->arena_; }
void* allocate_static_shared(std::size_t bytes, std::size_t align) {
  return running_block->allocate_static(bytes, align);
}
std::uint64_t block_epoch() { return running_block->epoch; }

}  // namespace redline::cuda::emulation
