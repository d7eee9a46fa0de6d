// Which thread of the block runs next, how one waits, how one ends, and what is said when none can go on.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/race.h"

namespace redline::cuda::emulation {

std::uint64_t Block::random() {  // xorshift64
  random_state_ ^= random_state_ << 13;
  random_state_ ^= random_state_ >> 7;
  random_state_ ^= random_state_ << 17;
  return random_state_;
}

void Block::set_current(Thread& thread) {
  current_ = &thread;
  thread.state = State::kRunning;
  threadIdx = thread.thread_idx;
}

void Block::make_ready(Thread& thread) {
  thread.state = State::kReady;
  ring_[(ring_head_ + ring_count_++) & ring_mask_] = thread.index;
}

Thread* Block::pick() {
  if (ring_count_ == 0) return nullptr;
  const std::uint32_t last = (ring_head_ + ring_count_ - 1) & ring_mask_;
  std::uint32_t chosen = ring_head_;
  if (policy == Schedule::kRandom) {
    const std::uint32_t drawn =
        (ring_head_ + static_cast<std::uint32_t>(random() % ring_count_)) & ring_mask_;
    std::swap(ring_[drawn], ring_[last]);
    chosen = last;
  } else if (policy == Schedule::kLifo) {
    chosen = last;
  } else {
    ring_head_ = (ring_head_ + 1) & ring_mask_;
  }
  --ring_count_;
  return &threads[static_cast<std::size_t>(ring_[chosen])];
}

Thread* Block::pick_or_wait_for_copies() {
  Thread* next = pick();
  while (!next && num_live > 0 && land_a_bulk_copy(true)) next = pick();
  return next;
}

Thread* Block::next_to_unwind() {
  for (int i = 0; i < num_threads; ++i) {
    Thread& thread = threads[static_cast<std::size_t>(i)];
    if (thread.state != State::kNotStarted && thread.state != State::kExited) return &thread;
  }
  return nullptr;
}

void Block::start_or_resume(Thread& thread) {
  if (thread.state == State::kNotStarted) thread.fiber = free_fiber();
  set_current(thread);
  switch_to(*thread.fiber);
}

void Block::suspend() {
  if (!bulk_copies.empty()) land_a_bulk_copy(false);
  Thread& me = *current_;
  Thread* next = pick_or_wait_for_copies();
  if (!next) fail(describe_deadlock());
  if (next == &me) {
    set_current(me);
  } else {
    start_or_resume(*next);
    if (failed_) throw Unwind{};
  }
}

void Block::fiber_main() {
  for (;;) {
    Thread* next = nullptr;
    try {
      entry_(arguments_);
      exit_thread(*current_);
      next = pick_or_wait_for_copies();
      if (!next && num_live > 0) fail(describe_deadlock());
    } catch (const Unwind&) {
      current_->state = State::kExited;
    } catch (const std::exception& error) {
      note_failure(text("exception in a kernel: ", error.what()));
      current_->state = State::kExited;
    }
    if (failed_) next = next_to_unwind();
    if (next && next->state == State::kNotStarted) {  // this fiber goes on as that thread
      next->fiber = fiber_;
      set_current(*next);
      continue;
    }
    free_fibers_.push_back(fiber_);
    if (next) {
      set_current(*next);
      switch_to(*next->fiber);
    } else {
      current_ = nullptr;
      switch_to_host();
    }
  }
}

void Block::exit_thread(Thread& thread) {
  const std::size_t waited = thread.groups_done ? thread.group_ends[thread.groups_done - 1] : 0;
  if (waited < thread.copies.size()) {
    fail(text("thread exited with cp.async still outstanding (issued at ",
              describe(thread.copies[waited].where), ")"));
  }
  if (!thread.wgmmas.empty()) fail("thread exited with wgmma results not waited for");
  thread.state = State::kExited;
  --num_live;
  warp_exited[static_cast<std::size_t>(thread.warp)] |= 1u << thread.lane;
  const Barrier& barrier = barriers[0];
  if (barrier.arrived && barrier.expected == 0) {
    fail(text("thread exited while ", barrier.arrived, " others wait at __syncthreads, ",
              describe(barrier.where)));
  }
}

void Block::note_failure(const std::string& message) {
  if (failed_) return;
  failed_ = true;
  error_ = text(message, "\n  in ", describe_place());
}

void Block::fail(const std::string& message) {
  note_failure(message);
  throw Unwind{};
}

void Block::abandon_thread() {
  current_->state = State::kExited;
  abandoned_fibers_.push_back(fiber_);
  if (Thread* const next = next_to_unwind()) {
    set_current(*next);
    switch_to(*next->fiber);
  } else {
    current_ = nullptr;
    switch_to_host();
  }
  std::abort();  // no one comes back
}

void fail(const std::string& message) {
  if (running_block && running_block->is_running()) running_block->fail(message);
  throw Error(message);
}

void fail_misaligned(const Location& where) { fail(text("misaligned 16-byte access at ", describe(where))); }

// Words -----------------------------------------------------------------------------------------------------

std::string hex(std::uint32_t value) {
  char digits[16];
  std::snprintf(digits, sizeof digits, "0x%08x", value);
  return digits;
}

bool same_place(const Location& a, const Location& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::string describe(const Location& where) {
  const char* slash = std::strrchr(where.file_name(), '/');
  return text(slash ? slash + 1 : where.file_name(), ":", where.line());
}

std::string describe_wait(const Thread& thread) {
  switch (thread.state) {
    case State::kInWarpCollective:
      return text(thread.operation, " mask ", hex(thread.mask), " at ", describe(thread.where));
    case State::kAtBarrier:
      return text("barrier ", thread.barrier, " at ", describe(thread.where));
    case State::kInGroupCollective:
      return text(thread.operation, " at ", describe(thread.where));
    case State::kAtMbarrier:
      return text("mbarrier wait (shared offset ", running_block->shared_address(thread.mbarrier),
                  ", parity ", thread.parity, ") at ", describe(thread.where));
    case State::kExited:
      return "exited";
    default:
      return "runnable";
  }
}

std::string Block::describe_place() const {
  std::string place = text("block (", blockIdx.x, ",", blockIdx.y, ",", blockIdx.z, ")");
  if (current_) {
    const uint3& t = current_->thread_idx;
    place += text(", thread (", t.x, ",", t.y, ",", t.z, ") warp ", current_->warp, " lane ", current_->lane);
  }
  return place + text(", seed ", config().seed);
}

std::string Block::describe_deadlock() const {
  std::string report = "deadlock: no thread of the block can run";
  for (int first = 0; first < num_threads;) {
    const std::string wait = describe_wait(threads[static_cast<std::size_t>(first)]);
    int end = first + 1;
    while (end < num_threads && describe_wait(threads[static_cast<std::size_t>(end)]) == wait) ++end;
    report += text("\n  threads ", first, "..", end - 1, ": ", wait);
    first = end;
  }
  for (int id = 0; id < kNumBarriers; ++id) {
    const Barrier& barrier = barriers[static_cast<std::size_t>(id)];
    if (barrier.arrived == 0) continue;
    report += text("\n  barrier ", id, ": ", barrier.arrived, " of ",
                   barrier.expected ? barrier.expected : num_live, " arrived");
  }
  return report;
}

}  // namespace redline::cuda::emulation
