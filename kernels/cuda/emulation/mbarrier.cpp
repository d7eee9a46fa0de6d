// mbarriers, and the bulk copies that complete transactions on them.
#include <cstring>

#include "kernels/cuda/device_emulated.h"
#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/bulk_copy.h"
#include "kernels/cuda/emulation/race.h"

#if REDLINE_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace redline::cuda {
namespace emulation {
namespace {

/// In the 64 bits: phase 1, pending arrivals 20, arrivals of a phase 20, transaction bytes 23 (biased).
struct MbarrierState {
  std::uint32_t phase;
  std::uint32_t pending;
  std::uint32_t expected;
  std::int32_t transactions;
};

constexpr std::uint32_t kCountMask = 0xfffff;
constexpr std::int32_t kTransactionBias = 1 << 22;

MbarrierState load(const std::uint64_t* mbarrier) {
  std::uint64_t bits;
  std::memcpy(&bits, mbarrier, sizeof bits);
  return {static_cast<std::uint32_t>(bits & 1), static_cast<std::uint32_t>(bits >> 1) & kCountMask,
          static_cast<std::uint32_t>(bits >> 21) & kCountMask,
          static_cast<std::int32_t>(bits >> 41) - kTransactionBias};
}

void store(std::uint64_t* mbarrier, const MbarrierState& state) {
  const std::uint64_t bits = state.phase | std::uint64_t{state.pending} << 1 |
                             std::uint64_t{state.expected} << 21 |
                             static_cast<std::uint64_t>(state.transactions + kTransactionBias) << 41;
  std::memcpy(mbarrier, &bits, sizeof bits);
}

void store_and_complete(Block& block, std::uint64_t* mbarrier, MbarrierState state) {
  if (state.pending != 0 || state.transactions != 0) return store(mbarrier, state);
  for (const BulkCopy& copy : block.bulk_copies) {
    if (copy.mbarrier != mbarrier) continue;
    fail(text("mbarrier phase completes while a bulk copy of ", copy.transaction_bytes,
              " bytes on it is still in flight: expect_tx is too small"));
  }
  state.phase ^= 1;
  state.pending = state.expected;
  store(mbarrier, state);
  if (race::enabled) race::complete_phase(mbarrier);
  for (int i = 0; i < block.num_threads; ++i) {
    Thread& thread = block.threads[static_cast<std::size_t>(i)];
    if (thread.state != State::kAtMbarrier || thread.mbarrier != mbarrier || state.phase == thread.parity)
      continue;
    if (race::enabled) race::acquire_from(i, mbarrier);
    block.make_ready(thread);
  }
}

void arrive(std::uint64_t* mbarrier, const char* operation, std::uint32_t transaction_bytes, const void* pc) {
  Block& block = *running_block;
  check_mbarrier(mbarrier, operation);
  if (race::enabled) {
    const int me = block.current().index;
    race::access_as(me, mbarrier, 8, race::Access::kAtomicWrite, pc, operation, nullptr);
    race::release_to(me, mbarrier);
  }
  MbarrierState state = load(mbarrier);
  if (state.pending == 0) fail(text(operation, ": more arrivals than expected in this phase"));
  --state.pending;
  state.transactions += static_cast<std::int32_t>(transaction_bytes);
  store_and_complete(block, mbarrier, state);
}

}  // namespace

void check_mbarrier(const std::uint64_t* mbarrier, const char* operation) {
  if (!running_block->in_shared(mbarrier, 8)) fail(text(operation, ": mbarrier is not in shared memory"));
  std::uint64_t bits;
  std::memcpy(&bits, mbarrier, sizeof bits);
  if (bits == ~std::uint64_t{0}) fail(text(operation, ": mbarrier is not initialised"));
}

void issue(BulkCopy copy, const Location& where) {
  Block& block = *running_block;
  const int me = block.current().index;
  for (const BulkCopy::Piece& piece : copy.pieces) {
    unsigned char* const destination = block.shared_pointer(piece.offset);
    if (race::enabled) race::async_issue(me, destination, piece.bytes, where);
    std::memset(destination, 0xff, piece.bytes);  // what was there may be gone already
  }
  if (race::enabled) race::release_to(me, copy.mbarrier);
  block.bulk_copies.push_back(std::move(copy));
}

bool Block::land_a_bulk_copy(bool forced) {
  if (bulk_copies.empty()) return false;
  const Landing landing = config().landing;
  if (!forced) {
    if (landing == Landing::kLazy) return false;
    const bool reluctant = landing_reluctance_ < 0 || (random() & ((1u << landing_reluctance_) - 1));
    if (landing == Landing::kRandom && reluctant) return false;
  }
  const std::size_t chosen = config().schedule == Schedule::kRandom ? random() % bulk_copies.size() : 0;
  const BulkCopy copy = std::move(bulk_copies[chosen]);
  bulk_copies.erase(bulk_copies.begin() + static_cast<std::ptrdiff_t>(chosen));
  const unsigned char* source = copy.data.data();
  for (const BulkCopy::Piece& piece : copy.pieces) {
    std::memcpy(shared_pointer(piece.offset), source, piece.bytes);
    source += piece.bytes;
    if (race::enabled) race::async_done(race::kAsyncProxy, shared_pointer(piece.offset), piece.bytes);
  }
  if (race::enabled) race::release_to(race::kAsyncProxy, copy.mbarrier);
  complete_transaction(copy.mbarrier, copy.transaction_bytes);
  return true;
}

void Block::complete_transaction(std::uint64_t* mbarrier, std::uint32_t bytes) {
  MbarrierState state = load(mbarrier);
  state.transactions -= static_cast<std::int32_t>(bytes);
  store_and_complete(*this, mbarrier, state);
}

}  // namespace emulation

namespace dev {

using namespace emulation;

void mbarrier_init(std::uint64_t* mbarrier, unsigned arrivals) {
  Block& block = *running_block;
  if (!block.in_shared(mbarrier, 8) || reinterpret_cast<std::uintptr_t>(mbarrier) % 8) {
    fail("mbarrier.init: the mbarrier must be 8 aligned bytes of shared memory");
  }
  store(mbarrier, {0, arrivals, arrivals, 0});
  if (race::enabled) {
    race::access_as(block.current().index, mbarrier, 8, race::Access::kWrite, __builtin_return_address(0),
                    "mbarrier.init", nullptr);
  }
}

void mbarrier_arrive(std::uint64_t* mbarrier) {
  arrive(mbarrier, "mbarrier.arrive", 0, __builtin_return_address(0));
}

void mbarrier_arrive_expect_tx(std::uint64_t* mbarrier, unsigned bytes) {
  arrive(mbarrier, "mbarrier.arrive.expect_tx", bytes, __builtin_return_address(0));
}

void mbarrier_wait_parity(std::uint64_t* mbarrier, unsigned parity, Location where) {
  Block& block = *running_block;
  Thread& me = block.current();
  check_mbarrier(mbarrier, "mbarrier.try_wait");
  if (race::enabled) {
    race::access_as(me.index, mbarrier, 8, race::Access::kAtomicRead, nullptr, "mbarrier.try_wait", &where);
  }
  if (load(mbarrier).phase != (parity & 1)) {
    if (race::enabled) race::acquire_from(me.index, mbarrier);
    return;
  }
  me.mbarrier = mbarrier;
  me.parity = parity & 1;
  me.where = where;
  me.state = State::kAtMbarrier;
  block.suspend();
}

void bulk_g2s(void* shared, const void* global, unsigned bytes, std::uint64_t* mbarrier, Location where) {
  Block& block = *running_block;
  check_mbarrier(mbarrier, "cp.async.bulk");
  if (bytes % 16 || reinterpret_cast<std::uintptr_t>(shared) % 16 ||
      reinterpret_cast<std::uintptr_t>(global) % 16) {
    fail(text("cp.async.bulk: size and addresses must be multiples of 16 at ", describe(where)));
  }
  if (!block.in_shared(shared, bytes)) {
    fail(text("cp.async.bulk: destination outside shared memory at ", describe(where)));
  }
#if REDLINE_EMULATION_ASAN
  if (__asan_region_is_poisoned(const_cast<void*>(global), bytes)) {
    fail(text("cp.async.bulk: global source out of bounds at ", describe(where)));
  }
#endif
  if (race::enabled) {
    race::access_as(block.current().index, global, bytes, race::Access::kRead, nullptr,
                    "cp.async.bulk source", &where);
  }
  const auto* const source = static_cast<const unsigned char*>(global);
  issue({std::vector<unsigned char>(source, source + bytes),
         mbarrier,
         bytes,
         {{block.shared_address(shared), bytes}}},
        where);
}

}  // namespace dev
}  // namespace redline::cuda
