// Block barriers, named barriers and warpgroup collectives.
#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/race.h"

namespace redline::cuda::emulation {

void Block::release(Barrier& barrier) {
  ++stats.barriers;
  if (race::enabled) {
    if (barrier.arrivers.empty() && static_cast<int>(barrier.waiters.size()) == num_live) {
      race::join_all(*this);
    } else {  // arrivers release what they did before, but acquire nothing
      for (const int thread : barrier.arrivers) race::release_to(thread, &barrier);
      for (const int thread : barrier.waiters) race::release_to(thread, &barrier);
      race::complete_phase(&barrier);
      for (const int thread : barrier.waiters) race::acquire_from(thread, &barrier);
    }
  }
  for (const int index : barrier.waiters) {
    Thread& thread = threads[static_cast<std::size_t>(index)];
    if (thread.state == State::kAtBarrier) make_ready(thread);
  }
  barrier.waiters.clear();
  barrier.arrivers.clear();
  barrier.arrived = 0;
}

void block_barrier(int id, int num_threads, bool wait, const Location& where) {
  Block& block = *running_block;
  Thread& me = block.current();
  if (id < 0 || id >= Block::kNumBarriers)
    fail(text("barrier ", id, " does not exist, at ", describe(where)));
  if (num_threads % 32)
    fail(text("barrier of ", num_threads, " threads, not a multiple of 32, at ", describe(where)));
  Barrier& barrier = block.barriers[static_cast<std::size_t>(id)];
  if (barrier.arrived == 0) {
    barrier.where = where;
    barrier.expected = num_threads;
  } else if (barrier.expected != num_threads) {
    fail(text("barrier ", id, ": thread counts differ (", barrier.expected, " at ", describe(barrier.where),
              ", ", num_threads, " at ", describe(where), ")"));
  } else if (num_threads == 0 && !same_place(barrier.where, where)) {
    fail(text("divergent __syncthreads: some threads are at ", describe(barrier.where), ", this one at ",
              describe(where)));
  }
  if (num_threads == 0 && block.num_live != block.num_threads) {
    fail(text("__syncthreads at ", describe(where), " after ", block.num_threads - block.num_live,
              " thread(s) of the block have exited"));
  }
  ++barrier.arrived;
  me.barrier = id;
  me.where = where;
  if (wait) {
    barrier.waiters.push_back(me.index);
    me.state = State::kAtBarrier;
  } else {
    barrier.arrivers.push_back(me.index);
  }
  if (barrier.arrived == (num_threads ? num_threads : block.num_live)) {
    const bool goes_on = block.policy == Schedule::kFifo || block.policy == Schedule::kLifo;
    if (wait && goes_on) me.state = State::kRunning;
    block.release(barrier);
    if (goes_on) return;
  }
  if (wait) block.suspend();
}

int block_barrier_reduce(Reduction reduction, bool predicate, const Location& where) {
  Barrier& barrier = running_block->barriers[0];
  if (barrier.arrived == 0) barrier.reduced = reduction == Reduction::kAnd;
  switch (reduction) {
    case Reduction::kCount:
      barrier.reduced += predicate;
      break;
    case Reduction::kOr:
      barrier.reduced |= predicate;
      break;
    case Reduction::kAnd:
      barrier.reduced &= predicate;
      break;
  }
  block_barrier(0, 0, true, where);
  const int result = barrier.reduced;
  block_barrier(0, 0, true, where);  // keeps the result until everyone has read it
  return result;
}

void group_collective(int num_threads, const char* operation, Collective compute, void* argument,
                      const Location& where) {
  Block& block = *running_block;
  Thread& me = block.current();
  me.operation = operation;
  me.where = where;
  me.argument = argument;
  me.state = State::kInGroupCollective;
  const int base = me.index / num_threads * num_threads;
  if (base + num_threads > block.num_threads) {
    fail(text(operation, " at ", describe(where), ": the block has no full warpgroup here"));
  }
  Thread* const group = &block.threads[static_cast<std::size_t>(base)];
  for (int i = 0; i < num_threads; ++i) {
    if (group[i].state != State::kInGroupCollective) {
      block.suspend();
      return;
    }
    if (group[i].operation != operation || !same_place(group[i].where, where)) {
      fail(text("warpgroup divergence: ", operation, " at ", describe(where), " versus ",
                describe_wait(group[i])));
    }
  }
  std::vector<void*> arguments;
  for (int i = 0; i < num_threads; ++i) arguments.push_back(group[i].argument);
  if (compute) compute(arguments.data(), static_cast<std::uint32_t>(num_threads));
  for (int i = 0; i < num_threads; ++i) {
    if (&group[i] != &me) block.make_ready(group[i]);
  }
  me.state = State::kRunning;
}

}  // namespace redline::cuda::emulation
