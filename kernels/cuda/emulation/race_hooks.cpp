// What the compiler calls from code built with -fsanitize=thread, in place of libtsan. A program without such
// objects does not link this file.
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/race.h"

namespace {

/// The compiler takes these calls for ones that do not throw.
void note(const void* data, std::size_t bytes, bool write, const void* pc) noexcept {
  namespace emulation = redline::cuda::emulation;
  try {
    emulation::note_access(data, bytes, write, false, pc);
    return;
  } catch (const emulation::Unwind&) {
  }
  emulation::running_block->abandon_thread();
}

}  // namespace

#define REDLINE_CALLER __builtin_return_address(0)

// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {

void __tsan_init() { redline::cuda::emulation::race::enabled = true; }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}
void __tsan_read_range(void* data, unsigned long bytes) { note(data, bytes, false, REDLINE_CALLER); }
void __tsan_write_range(void* data, unsigned long bytes) { note(data, bytes, true, REDLINE_CALLER); }

#define REDLINE_ACCESSES(BYTES)                                                               \
  void __tsan_read##BYTES(void* data) { note(data, BYTES, false, REDLINE_CALLER); }           \
  void __tsan_write##BYTES(void* data) { note(data, BYTES, true, REDLINE_CALLER); }           \
  void __tsan_unaligned_read##BYTES(void* data) { note(data, BYTES, false, REDLINE_CALLER); } \
  void __tsan_unaligned_write##BYTES(void* data) { note(data, BYTES, true, REDLINE_CALLER); } \
  void __tsan_volatile_read##BYTES(void* data) { note(data, BYTES, false, REDLINE_CALLER); }  \
  void __tsan_volatile_write##BYTES(void* data) { note(data, BYTES, true, REDLINE_CALLER); }  \
  void __tsan_read_write##BYTES(void* data) { note(data, BYTES, true, REDLINE_CALLER); }
REDLINE_ACCESSES(1)
REDLINE_ACCESSES(2)
REDLINE_ACCESSES(4)
REDLINE_ACCESSES(8)
REDLINE_ACCESSES(16)
#undef REDLINE_ACCESSES

// The emulation's atomics report themselves (atomic_update); these only do what is asked.
#define REDLINE_FETCH(BITS, T, NAME)                                     \
  T __tsan_atomic##BITS##_fetch_##NAME(volatile T* cell, T value, int) { \
    return __atomic_fetch_##NAME(cell, value, __ATOMIC_SEQ_CST);         \
  }
#define REDLINE_COMPARE_EXCHANGE(BITS, T, STRENGTH, WEAK)                                                   \
  int __tsan_atomic##BITS##_compare_exchange_##STRENGTH(volatile T* cell, T* expected, T value, int, int) { \
    return __atomic_compare_exchange_n(cell, expected, value, WEAK, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);    \
  }
#define REDLINE_ATOMICS(BITS, T)                                                                    \
  T __tsan_atomic##BITS##_load(const volatile T* cell, int) {                                       \
    return __atomic_load_n(cell, __ATOMIC_SEQ_CST);                                                 \
  }                                                                                                 \
  void __tsan_atomic##BITS##_store(volatile T* cell, T value, int) {                                \
    __atomic_store_n(cell, value, __ATOMIC_SEQ_CST);                                                \
  }                                                                                                 \
  T __tsan_atomic##BITS##_exchange(volatile T* cell, T value, int) {                                \
    return __atomic_exchange_n(cell, value, __ATOMIC_SEQ_CST);                                      \
  }                                                                                                 \
  T __tsan_atomic##BITS##_compare_exchange_val(volatile T* cell, T expected, T value, int, int) {   \
    __atomic_compare_exchange_n(cell, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    return expected;                                                                                \
  }                                                                                                 \
  REDLINE_FETCH(BITS, T, add)                                                                       \
  REDLINE_FETCH(BITS, T, sub)                                                                       \
  REDLINE_FETCH(BITS, T, and)                                                                       \
  REDLINE_FETCH(BITS, T, or)                                                                        \
  REDLINE_FETCH(BITS, T, xor)                                                                       \
  REDLINE_COMPARE_EXCHANGE(BITS, T, weak, true)                                                     \
  REDLINE_COMPARE_EXCHANGE(BITS, T, strong, false)
REDLINE_ATOMICS(8, std::uint8_t)
REDLINE_ATOMICS(16, std::uint16_t)
REDLINE_ATOMICS(32, std::uint32_t)
REDLINE_ATOMICS(64, std::uint64_t)

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier)
