#include "tests/bad_files/allocation.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> held{0}, peak{0};

void* counted(void* memory, std::size_t bytes) {
  if (!memory) {
    // A refused request counts too: it is one that should not have been made.
    if (bytes > peak.load()) peak.store(bytes);
    throw std::bad_alloc();
  }
  const std::size_t now = held.fetch_add(::malloc_usable_size(memory)) + ::malloc_usable_size(memory);
  std::size_t most = peak.load();
  while (now > most && !peak.compare_exchange_weak(most, now)) {
  }
  return memory;
}

void release(void* memory) {
  if (memory) held.fetch_sub(::malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

namespace redline {

std::size_t held_bytes() { return held.load(); }
std::size_t peak_bytes() { return peak.load(); }
void reset_peak_bytes() { peak.store(held.load()); }

}  // namespace redline

void* operator new(std::size_t bytes) { return counted(std::malloc(bytes), bytes); }
void* operator new[](std::size_t bytes) { return counted(std::malloc(bytes), bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(
      std::aligned_alloc(static_cast<std::size_t>(alignment),
                         (bytes + static_cast<std::size_t>(alignment) - 1) /
                             static_cast<std::size_t>(alignment) * static_cast<std::size_t>(alignment)),
      bytes);
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) { return operator new(bytes, alignment); }
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }
