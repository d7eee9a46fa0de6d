// Fibers: one stack for each thread of a block that has started, and the switch between them.
#include <sys/mman.h>

#include <new>

#include "kernels/cuda/emulation/block.h"
#if REDLINE_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/// Saves the callee-saved registers and the stack pointer to `*save`, and goes on where `load` was saved.
extern "C" void redline_emulation_switch(void** save, void* load);

#if defined(__x86_64__)
asm(R"(
.text
.globl redline_emulation_switch
.type redline_emulation_switch,@function
redline_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size redline_emulation_switch,.-redline_emulation_switch
)");
#else
#error "redline_emulation_switch is written for x86-64 only"
#endif

namespace redline::cuda::emulation {
namespace {

constexpr std::size_t kGuardBytes = 4096;
// ASan's instrumented frames are larger.
constexpr std::size_t kStackBytes = (REDLINE_EMULATION_ASAN ? 512 : 128) * 1024;
constexpr int kNumSavedRegisters = 6;

void fiber_entry();

/// Leaves on the stack what a switch would have, had fiber_entry called it first thing.
void prepare(Fiber& fiber) {
  void** top = reinterpret_cast<void**>(fiber.stack_low + fiber.stack_bytes - 64);
  *--top = nullptr;  // fiber_entry's caller, which does not exist
  *--top = reinterpret_cast<void*>(&fiber_entry);
  for (int i = 0; i < kNumSavedRegisters; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
}

void fiber_entry() {
#if REDLINE_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  running_block->fiber_main();
}

}  // namespace

Block::~Block() {
#if REDLINE_EMULATION_ASAN
  __asan_unpoison_memory_region(arena_, kArenaBytes);
#endif
  std::free(arena_);
  for (const auto& fiber : fibers_) munmap(fiber->stack_low - kGuardBytes, fiber->stack_bytes + kGuardBytes);
}

Fiber* Block::free_fiber() {
  if (!free_fibers_.empty()) {
    Fiber* fiber = free_fibers_.back();
    free_fibers_.pop_back();
    return fiber;
  }
  void* memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  auto fiber = std::make_unique<Fiber>();
  fiber->stack_low = static_cast<char*>(memory) + kGuardBytes;
  fiber->stack_bytes = kStackBytes;
  prepare(*fiber);
  fibers_.push_back(std::move(fiber));
  return fibers_.back().get();
}

void Block::reclaim_abandoned() {
  for (Fiber* fiber : abandoned_fibers_) {
    prepare(*fiber);
    free_fibers_.push_back(fiber);
  }
  abandoned_fibers_.clear();
}

void Block::switch_stacks(void** save, [[maybe_unused]] void** save_fake, void* to,
                          [[maybe_unused]] void* to_fake, [[maybe_unused]] const void* to_low,
                          [[maybe_unused]] std::size_t to_bytes) {
  ++stats.switches;
#if REDLINE_EMULATION_ASAN
  __sanitizer_start_switch_fiber(save_fake, to_low, to_bytes);
#endif
  redline_emulation_switch(save, to);
#if REDLINE_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(*save_fake, nullptr, nullptr);
#endif
}

void Block::switch_to(Fiber& fiber) {
  Fiber& from = fiber_ ? *fiber_ : host_;
  fiber_ = &fiber;
  switch_stacks(&from.stack_pointer, &from.asan_fake_stack, fiber.stack_pointer, fiber.asan_fake_stack,
                fiber.stack_low, fiber.stack_bytes);
}

void Block::switch_to_host() {
  Fiber& from = *fiber_;
  fiber_ = nullptr;
  switch_stacks(&from.stack_pointer, &from.asan_fake_stack, host_.stack_pointer, host_.asan_fake_stack,
                host_.stack_low, host_.stack_bytes);
}

}  // namespace redline::cuda::emulation
