// The race check's shadow memory: for each byte, who wrote and read it last, judged by vector clocks.
#include "kernels/cuda/emulation/race.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/race_report.h"

namespace redline::cuda::emulation {
namespace race {

bool enabled = false;

namespace {

using Clock = std::uint32_t;

bool writes(Access access) { return access == Access::kWrite || access == Access::kAtomicWrite; }
bool is_atomic(Access access) { return access == Access::kAtomicRead || access == Access::kAtomicWrite; }

/// A byte of shared memory.
struct Cell {
  Clock write_clock;  // 0: never written
  int writer;
  bool initialised, atomic, pending;  // pending: an asynchronous copy is to write it
  Clock read_clock[2];                // the last reads by two threads
  int reader[2];
  Place write_place, read_place[2];
};

/// A byte of a registered buffer. A block is its launch and its index; 0: none.
struct GlobalCell {
  std::uint64_t write_block, read_block;
  Clock write_clock, read_clock;
  int writer, reader;
  bool initialised, atomic;
};

struct RegisteredBuffer {
  const unsigned char* data;
  std::size_t bytes;
  std::string name;
  std::vector<GlobalCell> cells;  // made at the first access
};

struct Channel {
  std::vector<Clock> pending, done;
};

/// The shadow of the one block that runs, and of all buffers.
struct Shadow {
  std::mutex one_launch;
  std::mutex registry;
  std::map<const unsigned char*, RegisteredBuffer> buffers;
  std::uint64_t launch = 0;
  std::uint64_t first_unfinished = 0;  // of the launches before this one; this one: none
  std::unordered_map<const void*, std::vector<std::uint64_t>> atomic_users;  // blocks, by address

  Block* block = nullptr;
  std::uint64_t block_key = 0;
  int num_threads = 0;        // the async proxy is thread num_threads
  std::vector<Clock> clocks;  // [num_threads + 1][num_threads + 1]
  std::vector<Cell> cells;    // [arena]
  std::size_t touched_bytes = 0;
  std::unordered_map<const void*, Channel> channels;
  std::unordered_set<std::uint64_t> acquired;  // blocks whose work an atomic has made visible to this one
  std::vector<bool> has_waited;                // threads, for launches before this one

  std::size_t width() const { return static_cast<std::size_t>(num_threads) + 1; }
  Clock* clock(int thread) { return &clocks[static_cast<std::size_t>(thread) * width()]; }
  int actor(int thread) const { return thread == kAsyncProxy ? num_threads : thread; }
  void tick(int thread) { ++clock(thread)[thread]; }
  bool before(int earlier, Clock at, const Clock* now) const { return now[earlier] >= at; }
};

Shadow& shadow() {
  static Shadow shadow;
  return shadow;
}

void raise_to(Clock* clock, const Clock* other, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) clock[i] = std::max(clock[i], other[i]);
}

void check_shared_read(Shadow& s, Cell& cell, int me, std::size_t offset, const Place& place) {
  if (!cell.initialised) {
    fail(text("read of uninitialised shared memory, offset ", offset, ": ", name(me, s.num_threads),
              describe(place)));
  }
  const Clock* const now = s.clock(me);
  // Keep two readers: replace one that this read follows, else one at random.
  std::size_t slot = s.block->random() & 1;
  for (std::size_t i : {1u, 0u}) {
    if (cell.read_clock[i] == 0 || s.before(cell.reader[i], cell.read_clock[i], now)) slot = i;
  }
  for (std::size_t i : {1u, 0u}) {
    if (cell.read_clock[i] && cell.reader[i] == me) slot = i;
  }
  cell.reader[slot] = me;
  cell.read_clock[slot] = now[me];
  cell.read_place[slot] = place;
}

void shared_access(Shadow& s, int me, std::size_t offset, std::size_t bytes, Access access,
                   const Place& place) {
  const Clock* const now = s.clock(me);
  s.touched_bytes = std::max(s.touched_bytes, offset + bytes);
  const auto race = [&](const char* kind, std::size_t at, int other, const Place& other_place) {
    fail(text(kind, " race on shared memory offset ", at, ": ", name(me, s.num_threads),
              writes(access) ? " writes" : " reads", describe(place), ", unordered with ",
              name(other, s.num_threads), describe(other_place)));
  };
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    Cell& cell = s.cells[i];
    if (cell.pending) {
      fail(text("access to the destination of an asynchronous copy before it was waited for, shared offset ",
                i, ": ", name(me, s.num_threads), describe(place), "; copy issued by ",
                name(cell.writer, s.num_threads)));
    }
    const bool both_atomic = is_atomic(access) && cell.atomic;
    if (cell.write_clock && cell.writer != me && !s.before(cell.writer, cell.write_clock, now) &&
        !both_atomic) {
      race(writes(access) ? "write-write" : "read-after-write", i, cell.writer, cell.write_place);
    }
    if (writes(access)) {
      for (std::size_t k = 0; k < 2 && !is_atomic(access); ++k) {
        if (cell.read_clock[k] && cell.reader[k] != me &&
            !s.before(cell.reader[k], cell.read_clock[k], now)) {
          race("write-after-read", i, cell.reader[k], cell.read_place[k]);
        }
      }
      cell.write_clock = now[me];
      cell.writer = me;
      cell.initialised = true;
      cell.atomic = is_atomic(access);
      cell.write_place = place;
    } else if (!is_atomic(access)) {
      check_shared_read(s, cell, me, i, place);
    }
  }
}

void global_access(Shadow& s, RegisteredBuffer& buffer, int me, std::size_t offset, std::size_t bytes,
                   Access access, const Place& place) {
  const Clock* const now = s.clock(me);
  if (offset + bytes > buffer.bytes) {
    fail(text("global access beyond '", buffer.name, "' (", buffer.bytes, " bytes) at offset ", offset,
              " by ", name(me, s.num_threads), describe(place)));
  }
  if (buffer.cells.empty()) buffer.cells.assign(buffer.bytes, GlobalCell{});
  if (is_atomic(access)) {  // sees what blocks did that came here before; those to come will see this one's
    auto& users = s.atomic_users[buffer.data + offset];
    s.acquired.insert(users.begin(), users.end());
    if (users.empty() || users.back() != s.block_key) users.push_back(s.block_key);
  }
  const auto clashes = [&](std::uint64_t block, int other, Clock at) {
    if (block >> 32 != s.launch)
      return block >> 32 >= s.first_unfinished && !s.has_waited[static_cast<std::size_t>(me)];
    if (block != s.block_key) return !s.acquired.contains(block);
    return other != me && !s.before(other, at, now);
  };
  const auto race = [&](const char* kind, std::size_t at, std::uint64_t block, int other) {
    fail(text(kind, " race on global buffer '", buffer.name, "' byte ", at, ": ", name(me, s.num_threads),
              writes(access) ? " writes" : " reads", describe(place), ", unordered with block ",
              static_cast<std::uint32_t>(block), block >> 32 == s.launch ? " " : " of a kernel before, ",
              name(other, s.num_threads)));
  };
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    GlobalCell& cell = buffer.cells[i];
    const bool both_atomic = is_atomic(access) && cell.atomic;
    if (cell.write_block && !both_atomic && clashes(cell.write_block, cell.writer, cell.write_clock)) {
      race(writes(access) ? "write-write" : "read-after-write", i, cell.write_block, cell.writer);
    }
    if (writes(access)) {
      if (cell.read_block && !is_atomic(access) && clashes(cell.read_block, cell.reader, cell.read_clock)) {
        race("write-after-read", i, cell.read_block, cell.reader);
      }
      cell.write_block = s.block_key;
      cell.writer = me;
      cell.write_clock = now[me];
      cell.initialised = true;
      cell.atomic = is_atomic(access);
    } else {
      if (!cell.initialised) {
        fail(text("read of uninitialised global memory '", buffer.name, "' byte ", i, " by ",
                  name(me, s.num_threads), describe(place)));
      }
      if (cell.read_block != s.block_key || s.before(cell.reader, cell.read_clock, now)) {
        cell.read_block = s.block_key;
        cell.reader = me;
        cell.read_clock = now[me];
      }
    }
  }
}

}  // namespace

Launch::Launch(bool dependent) {
  if (!enabled) return;
  Shadow& s = shadow();
  s.one_launch.lock();
  ++s.launch;
  if (!dependent) s.first_unfinished = s.launch;
  s.atomic_users.clear();
}

Launch::~Launch() {
  if (enabled) shadow().one_launch.unlock();
}

void begin_block(Block& block, std::uint64_t block_index) {
  Shadow& s = shadow();
  s.block = &block;
  s.block_key = s.launch << 32 | block_index;
  s.num_threads = block.num_threads;
  s.clocks.assign(s.width() * s.width(), 0);
  for (int t = 0; t <= s.num_threads; ++t) s.clock(t)[t] = 1;
  s.cells.resize(Block::kArenaBytes);
  std::fill_n(s.cells.begin(), s.touched_bytes, Cell{});
  s.touched_bytes = 0;
  s.channels.clear();
  s.acquired.clear();
  s.has_waited.assign(s.width(), false);
}

void note_wait(int thread) {
  Shadow& s = shadow();
  s.has_waited[static_cast<std::size_t>(thread)] = true;
  s.has_waited[static_cast<std::size_t>(s.num_threads)] = true;  // what it has copied from now on
}

void join_all(Block& block) {
  Shadow& s = shadow();
  std::vector<Clock> joined(s.width());
  for (int t = 0; t < s.num_threads; ++t) {  // no other thread knows more of t than t does
    joined[static_cast<std::size_t>(t)] = s.clock(t)[t];
    Clock& proxy = joined[static_cast<std::size_t>(s.num_threads)];
    proxy = std::max(proxy, s.clock(t)[s.num_threads]);
  }
  for (int t = 0; t < s.num_threads; ++t) {
    if (block.threads[static_cast<std::size_t>(t)].state == State::kExited) continue;
    std::copy(joined.begin(), joined.end(), s.clock(t));
    s.tick(t);
  }
}

void join_lanes(int warp, std::uint32_t mask) {
  Shadow& s = shadow();
  std::vector<Clock> joined(s.width());
  for (int pass = 0; pass < 2; ++pass) {
    for (int lane = 0; lane < 32; ++lane) {
      if (!(mask >> lane & 1)) continue;
      const int t = warp * 32 + lane;
      if (pass == 0) {
        raise_to(joined.data(), s.clock(t), s.width());
      } else {
        std::copy(joined.begin(), joined.end(), s.clock(t));
        s.tick(t);
      }
    }
  }
}

void release_to(int thread, const void* object) {
  Shadow& s = shadow();
  const int me = s.actor(thread);
  std::vector<Clock>& pending = s.channels[object].pending;
  pending.resize(s.width());
  raise_to(pending.data(), s.clock(me), s.width());
  s.tick(me);
}

void complete_phase(const void* object) {
  Channel& channel = shadow().channels[object];
  channel.done = channel.pending;
}

void acquire_from(int thread, const void* object) {
  Shadow& s = shadow();
  const Channel& channel = s.channels[object];
  if (!channel.done.empty()) raise_to(s.clock(s.actor(thread)), channel.done.data(), s.width());
}

void access_as(int thread, const void* data, std::size_t bytes, Access access, const void* pc,
               const char* what, const Location* where) {
  Shadow& s = shadow();
  const auto* const first = static_cast<const unsigned char*>(data);
  const Place place{pc, what, where ? *where : Location{}};
  const unsigned char* const arena = s.block->shared_pointer(0);
  if (first >= arena && first < arena + Block::kArenaBytes) {
    return shared_access(s, s.actor(thread), static_cast<std::size_t>(first - arena), bytes, access, place);
  }
  auto next = s.buffers.upper_bound(first);
  if (next == s.buffers.begin()) return;
  RegisteredBuffer& buffer = std::prev(next)->second;
  if (first >= buffer.data + buffer.bytes) return;
  global_access(s, buffer, s.actor(thread), static_cast<std::size_t>(first - buffer.data), bytes, access,
                place);
}

void async_issue(int thread, const void* destination, std::size_t bytes, const Location& where) {
  Shadow& s = shadow();
  access_as(thread, destination, bytes, Access::kWrite, nullptr, "asynchronous copy", &where);
  Cell* const cells = &s.cells[s.block->shared_address(destination)];
  for (std::size_t i = 0; i < bytes; ++i) cells[i].pending = true;
  raise_to(s.clock(s.num_threads), s.clock(thread), s.width());
}

void async_done(int thread, const void* destination, std::size_t bytes) {
  Shadow& s = shadow();
  const int me = s.actor(thread);
  Cell* const cells = &s.cells[s.block->shared_address(destination)];
  for (std::size_t i = 0; i < bytes; ++i) {
    cells[i].pending = false;
    cells[i].initialised = true;
    cells[i].atomic = false;
    cells[i].writer = me;
    cells[i].write_clock = s.clock(me)[me];
  }
}

}  // namespace race

void register_buffer(const void* data, std::size_t bytes, const char* name) {
  if (!race::enabled) return;
  race::Shadow& s = race::shadow();
  const std::lock_guard lock(s.registry);
  const auto* const first = static_cast<const unsigned char*>(data);
  s.buffers[first] = {first, bytes, name, {}};
}

void unregister_buffer(const void* data) {
  if (!race::enabled) return;
  race::Shadow& s = race::shadow();
  const std::lock_guard lock(s.registry);
  s.buffers.erase(static_cast<const unsigned char*>(data));
}

void mark_initialised(const void* data, std::size_t bytes) {
  if (!race::enabled || bytes == 0) return;
  race::Shadow& s = race::shadow();
  const std::lock_guard lock(s.registry);
  const auto* const first = static_cast<const unsigned char*>(data);
  auto next = s.buffers.upper_bound(first);
  if (next == s.buffers.begin()) return;
  race::RegisteredBuffer& buffer = std::prev(next)->second;
  if (first + bytes > buffer.data + buffer.bytes) return;
  if (buffer.cells.empty()) buffer.cells.assign(buffer.bytes, race::GlobalCell{});
  race::GlobalCell written{};
  written.initialised = true;
  std::fill_n(buffer.cells.begin() + (first - buffer.data), bytes, written);
}

void note_access(const void* data, std::size_t bytes, bool write, bool atomic, const void* pc) {
  if (!race::enabled || !running_block || !running_block->is_running()) return;
  using race::Access;
  const Access access = atomic ? (write ? Access::kAtomicWrite : Access::kAtomicRead)
                               : (write ? Access::kWrite : Access::kRead);
  race::access_as(running_block->current().index, data, bytes, access, pc, nullptr, nullptr);
}

bool race_check_enabled() { return race::enabled; }

}  // namespace redline::cuda::emulation
