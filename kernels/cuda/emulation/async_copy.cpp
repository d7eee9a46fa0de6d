// cp.async: each thread's copies of 16 bytes into shared memory, in groups that the thread waits for.
#include <cstring>

#include "kernels/cuda/device_emulated.h"
#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/race.h"
#if REDLINE_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace redline::cuda {
namespace emulation {
namespace {

constexpr std::size_t kCopyBytes = 16;

void land(AsyncCopy& copy) {
  if (copy.landed) return;
  copy.landed = true;
  if (copy.zero_fill) {
    std::memset(copy.destination, 0, kCopyBytes);
  } else {
    std::memcpy(copy.destination, copy.source, kCopyBytes);
  }
}

}  // namespace
}  // namespace emulation

namespace dev {

using namespace emulation;

void cp_async_16(void* shared, const void* global, Location where) {
  cp_async_16_zfill(shared, global, true, where);
}

void cp_async_16_zfill(void* shared, const void* global, bool copy, Location where) {
  Block& block = *running_block;
  Thread& me = block.current();
  if (reinterpret_cast<std::uintptr_t>(shared) % kCopyBytes ||
      reinterpret_cast<std::uintptr_t>(global) % kCopyBytes) {
    fail(text("cp.async: address not 16-byte aligned at ", describe(where)));
  }
  if (!block.in_shared(shared, kCopyBytes)) {
    fail(text("cp.async: destination outside shared memory at ", describe(where)));
  }
#if REDLINE_EMULATION_ASAN
  if (__asan_region_is_poisoned(shared, kCopyBytes)) {
    fail(text("cp.async: destination in a red zone of shared memory at ", describe(where)));
  }
  if (copy && __asan_region_is_poisoned(const_cast<void*>(global), kCopyBytes)) {
    fail(text("cp.async: global source out of bounds at ", describe(where)));
  }
#endif
  if (race::enabled) {
    race::async_issue(me.index, shared, kCopyBytes, where);
    if (copy) {
      race::access_as(me.index, global, kCopyBytes, race::Access::kRead, nullptr, "cp.async source", &where);
    }
  }
  ++block.stats.async_copies;
  me.copies.push_back({shared, global, !copy, false, where});
  const Landing landing = config().landing;
  if (landing == Landing::kEager || (landing == Landing::kRandom && (block.random() & 1))) {
    land(me.copies.back());
  } else {
    std::memset(shared, 0xff, kCopyBytes);  // what was there may be gone already
  }
}

void cp_async_commit() {
  Thread& me = running_block->current();
  me.group_ends.push_back(me.copies.size());
}

void cp_async_wait_n(int pending_groups) {
  Thread& me = running_block->current();
  while (me.group_ends.size() - me.groups_done > static_cast<std::size_t>(pending_groups)) {
    const std::size_t begin = me.groups_done ? me.group_ends[me.groups_done - 1] : 0;
    for (std::size_t i = begin; i < me.group_ends[me.groups_done]; ++i) {
      land(me.copies[i]);
      if (race::enabled) race::async_done(me.index, me.copies[i].destination, kCopyBytes);
    }
    ++me.groups_done;
  }
  const std::size_t committed = me.group_ends.empty() ? 0 : me.group_ends.back();
  if (me.groups_done == me.group_ends.size() && committed == me.copies.size()) {
    me.copies.clear();
    me.group_ends.clear();
    me.groups_done = 0;
  }
}

}  // namespace dev
}  // namespace redline::cuda
