// Warp collectives: who waits for whom, and what shuffles, votes and reductions compute.
#include <algorithm>
#include <bit>

#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/race.h"

namespace redline::cuda::emulation {
namespace {

constexpr int kLanes = 32;

struct Call {
  std::uint32_t mask;
  const char* operation;
  const Location& where;
};

bool agrees(const Thread& other, const Call& call) {
  return other.mask == call.mask && other.operation == call.operation && same_place(other.where, call.where);
}

[[noreturn]] void fail_divergence(const Thread& me, const Thread& other, const Call& call) {
  fail(text("warp divergence: lane ", me.lane, " is at ", call.operation, " mask ", hex(call.mask), " ",
            describe(call.where), " but lane ", other.lane, " is at ", describe_wait(other)));
}

/// Checks what a call that must wait can already know to be wrong.
void check_waiting_lanes(Block& block, const Thread& me, const Thread* lanes, const Call& call) {
  const auto warp = static_cast<std::size_t>(me.warp);
  if (const std::uint32_t gone = block.warp_exited[warp] & call.mask) {
    fail(text(call.operation, " at ", describe(call.where), ": lanes ", hex(gone), " of mask ",
              hex(call.mask), " have exited"));
  }
  const std::uint32_t others = block.warp_arrived[warp] & call.mask & ~(1u << me.lane);
  if (others == 0) return;
  const Thread& other = lanes[std::countr_zero(others)];
  if ((other.mask >> me.lane & 1) && !agrees(other, call)) fail_divergence(me, other, call);
}

}  // namespace

void warp_collective(std::uint32_t mask, const char* operation, Collective compute, void* argument,
                     const Location& where, bool orders_memory) {
  Block& block = *running_block;
  Thread& me = block.current();
  const Call call{mask, operation, where};
  if (!(mask >> me.lane & 1)) {
    fail(text(operation, " at ", describe(where), ": calling lane is not in mask ", hex(mask)));
  }
  Thread* const lanes = &block.threads[static_cast<std::size_t>(me.warp) * kLanes];
  const int in_warp = std::min(kLanes, block.num_threads - me.warp * kLanes);
  if (in_warp < kLanes && mask >> in_warp) {
    fail(text(operation, " at ", describe(where), ": mask ", hex(mask), " names lanes beyond the block"));
  }
  me.operation = operation;
  me.where = where;
  me.mask = mask;
  me.argument = argument;
  std::uint32_t& arrived = block.warp_arrived[static_cast<std::size_t>(me.warp)];
  arrived |= 1u << me.lane;
  if ((arrived & mask) != mask) {
    check_waiting_lanes(block, me, lanes, call);
    me.state = State::kInWarpCollective;
    block.suspend();
    return;
  }

  void* arguments[kLanes] = {};
  for (int lane = 0; lane < in_warp; ++lane) {
    if (!(mask >> lane & 1)) continue;
    if (lane != me.lane && !agrees(lanes[lane], call)) fail_divergence(me, lanes[lane], call);
    arguments[lane] = lanes[lane].argument;
  }
  ++block.stats.warp_collectives;
  arrived &= ~mask;
  if (compute) compute(arguments, mask);
  if (orders_memory && race::enabled) race::join_lanes(me.warp, mask);
  const bool yields = block.policy == Schedule::kRandom && (block.random() & 1);
  for (int i = 0; i < in_warp; ++i) {
    const int lane = block.policy == Schedule::kLifo ? in_warp - 1 - i : i;
    if ((mask >> lane & 1) && lane != me.lane) block.make_ready(lanes[lane]);
  }
  if (yields) {
    block.make_ready(me);
    block.suspend();
  }
}

void compute_shuffle(void* const* lanes, std::uint32_t mask) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!lanes[lane]) continue;
    auto& argument = *static_cast<ShuffleArgument*>(lanes[lane]);
    const int segment = lane & ~(argument.width - 1);
    const int end = segment + argument.width;
    int source = lane;
    switch (argument.mode) {
      case Shuffle::kIndex:
        source = segment + (argument.operand & (argument.width - 1));
        break;
      case Shuffle::kUp:
        if (lane - argument.operand >= segment) source = lane - argument.operand;
        break;
      case Shuffle::kDown:
        if (lane + argument.operand < end) source = lane + argument.operand;
        break;
      case Shuffle::kXor:
        if ((lane ^ argument.operand) < end) source = lane ^ argument.operand;
        break;
    }
    if (!(mask >> source & 1)) {
      fail(text("shuffle: lane ", lane, " reads lane ", source, " which is outside the mask ", hex(mask)));
    }
    argument.result = static_cast<const ShuffleArgument*>(lanes[source])->value;
  }
}

void compute_ballot(void* const* lanes, std::uint32_t) {
  unsigned votes = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (lanes[lane] && static_cast<const VoteArgument*>(lanes[lane])->predicate) votes |= 1u << lane;
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if (lanes[lane]) static_cast<VoteArgument*>(lanes[lane])->result = votes;
  }
}

void compute_warp_reduce(void* const* lanes, std::uint32_t mask) {
  const int first = std::countr_zero(mask);
  unsigned total = static_cast<const WarpReduceArgument*>(lanes[first])->value;
  for (int lane = first + 1; lane < kLanes; ++lane) {
    if (!lanes[lane]) continue;
    const auto& argument = *static_cast<const WarpReduceArgument*>(lanes[lane]);
    const bool less = argument.is_signed ? static_cast<int>(argument.value) < static_cast<int>(total)
                                         : argument.value < total;
    switch (argument.reduction) {
      case WarpReduction::kAdd:
        total += argument.value;
        break;
      case WarpReduction::kMin:
        total = less ? argument.value : total;
        break;
      case WarpReduction::kMax:
        total = less ? total : argument.value;
        break;
      case WarpReduction::kAnd:
        total &= argument.value;
        break;
      case WarpReduction::kOr:
        total |= argument.value;
        break;
      case WarpReduction::kXor:
        total ^= argument.value;
        break;
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if (lanes[lane]) static_cast<WarpReduceArgument*>(lanes[lane])->result = total;
  }
}

}  // namespace redline::cuda::emulation
