// wgmma: warpgroup products of shared-memory tiles, asynchronous until waited for.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/cuda/emulation/bulk_copy.h"
#include "kernels/cuda/emulation/race.h"

namespace redline::cuda {
namespace emulation {
namespace {

constexpr int kWarpgroup = 128;
constexpr int kRows = 64;
constexpr int kDepth = 16;

struct WgmmaArgument {
  float* d;
  const std::uint32_t* a_registers;  // null: A is in shared memory
  std::uint64_t a_descriptor;
  std::uint64_t b_descriptor;
  int n;
  bool accumulate;
  bool b_transposed;
  Location where;
};

/// Where element (row, k) of an operand lies. K-major: rows of a group of 8 lie one swizzle span apart,
/// groups SBO apart; the exclusive or acts on absolute address bits, so that advancing the start by 32 bytes
/// walks along K within the span. Without swizzle: 8x8 core matrices of 128 bytes, LBO apart along K, SBO
/// along rows. Transposed (row-contiguous): a span of rows lies together, 8 of k follow one span apart;
/// further k SBO apart, further rows LBO. Without swizzle core matrices lie LBO apart along k, SBO along
/// rows.
std::uint32_t operand_address(std::uint64_t descriptor, int row, int k, bool transposed) {
  const std::uint32_t start = static_cast<std::uint32_t>(descriptor & 0x3fff) << 4;
  const std::uint32_t leading = static_cast<std::uint32_t>(descriptor >> 16 & 0x3fff) << 4;
  const std::uint32_t stride = static_cast<std::uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  const auto swizzle = static_cast<dev::Swizzle>(descriptor >> 62);
  const auto r = static_cast<std::uint32_t>(row), c = static_cast<std::uint32_t>(k);
  std::uint32_t address = start;
  if (swizzle == dev::Swizzle::None) {
    const std::uint32_t core_row = transposed ? c % 8 : r % 8, core_column = transposed ? r % 8 : c % 8;
    address += r / 8 * stride + c / 8 * leading + core_row * 16 + core_column * 2;
  } else {
    const std::uint32_t span = 256u >> static_cast<unsigned>(swizzle), elements = span / 2;
    address += transposed ? r / elements * leading + c / 8 * stride + c % 8 * span + r % elements * 2
                          : r / 8 * stride + r % 8 * span + c * 2;
    address = swizzled(address, swizzle);
  }
  if (address + 2 > Block::kArenaBytes ||
      !running_block->in_shared(running_block->shared_pointer(address), 2)) {
    fail("wgmma: descriptor reaches outside shared memory");
  }
  return address;
}

float operand(std::uint64_t descriptor, int row, int k, bool transposed) {
  std::uint16_t bf16;
  std::memcpy(&bf16, running_block->shared_pointer(operand_address(descriptor, row, k, transposed)),
              sizeof bf16);
  return std::bit_cast<float>(std::uint32_t{bf16} << 16);
}

/// The tensor core reads operands at any time between issue and wait: one thread stands for the group at both
/// ends.
void note_operand_reads(int thread, const PendingWgmma& wgmma) {
  const auto note = [&](std::uint64_t descriptor, int rows, bool transposed) {
    for (int row = 0; row < rows; ++row) {
      for (int k = 0; k < kDepth; ++k) {
        const unsigned char* const element =
            running_block->shared_pointer(operand_address(descriptor, row, k, transposed));
        race::access_as(thread, element, 2, race::Access::kRead, nullptr, "wgmma operand", &wgmma.where);
      }
    }
  };
  if (wgmma.a_descriptor) note(wgmma.a_descriptor, kRows, false);
  note(wgmma.b_descriptor, wgmma.n, wgmma.b_transposed);
}

/// Accumulator i of thread t is row 16 (t / 32) + t % 32 / 4 + 8 (i / 2 % 2), column 8 (i / 4) + 2 (t % 4) +
/// i % 2; an A fragment in registers is mma.m16n8k16's, for the warp's 16 rows.
void load_a(void* const* group, float (&a)[kRows][kDepth]) {
  const auto& first = *static_cast<const WgmmaArgument*>(group[0]);
  if (!first.a_registers) {
    for (int r = 0; r < kRows; ++r) {
      for (int k = 0; k < kDepth; ++k) a[r][k] = operand(first.a_descriptor, r, k, false);
    }
    return;
  }
  for (int t = 0; t < kWarpgroup; ++t) {
    const auto& argument = *static_cast<const WgmmaArgument*>(group[t]);
    const int row = t / 32 * 16 + t % 32 / 4, k = t % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t pair = argument.a_registers[i];
      a[row + i % 2 * 8][k + i / 2 * 8] = std::bit_cast<float>(pair << 16);
      a[row + i % 2 * 8][k + i / 2 * 8 + 1] = std::bit_cast<float>(pair & 0xffff0000u);
    }
  }
}

/// The accumulators that this product adds to: those of an earlier product not yet waited for, or the
/// registers.
const float* previous(const Thread& thread, const float* accumulators) {
  const auto same = [&](const PendingWgmma& pending) { return pending.accumulators == accumulators; };
  const auto found = std::find_if(thread.wgmmas.rbegin(), thread.wgmmas.rend(), same);
  return found == thread.wgmmas.rend() ? accumulators : found->results.data();
}

void compute_wgmma(void* const* group, std::uint32_t) {
  Block& block = *running_block;
  const auto& first = *static_cast<const WgmmaArgument*>(group[0]);
  const int n = first.n;
  const int base = block.current().index / kWarpgroup * kWarpgroup;
  float a[kRows][kDepth];
  load_a(group, a);
  std::vector<float> b(static_cast<std::size_t>(n) * kDepth), product(static_cast<std::size_t>(n) * kRows);
  for (int c = 0; c < n; ++c) {
    for (int k = 0; k < kDepth; ++k) {
      b[static_cast<std::size_t>(c * kDepth + k)] = operand(first.b_descriptor, c, k, first.b_transposed);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < n; ++c) {
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += a[r][k] * b[static_cast<std::size_t>(c * kDepth + k)];
      product[static_cast<std::size_t>(r * n + c)] = sum;
    }
  }
  block.stats.mma += static_cast<std::uint64_t>(kRows * n / (16 * 8));
  for (int t = 0; t < kWarpgroup; ++t) {
    const auto& argument = *static_cast<const WgmmaArgument*>(group[t]);
    if (argument.a_descriptor != first.a_descriptor || argument.b_descriptor != first.b_descriptor ||
        argument.accumulate != first.accumulate) {
      fail(text("wgmma: operands differ across the warpgroup at ", describe(argument.where)));
    }
    Thread& thread = block.threads[static_cast<std::size_t>(base + t)];
    const float* const addend = previous(thread, argument.d);
    std::vector<float> results(static_cast<std::size_t>(n / 2));
    for (int i = 0; i < n / 2; ++i) {
      const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + t % 4 * 2 + i % 2;
      results[static_cast<std::size_t>(i)] =
          (argument.accumulate ? addend[i] : 0.0f) + product[static_cast<std::size_t>(row * n + column)];
    }
    std::fill(argument.d, argument.d + n / 2, NAN);  // undefined until wgmma.wait_group
    thread.wgmmas.push_back({argument.d, std::move(results), argument.a_descriptor, argument.b_descriptor, n,
                             argument.b_transposed, argument.where});
    if (race::enabled && t == 0) note_operand_reads(base, thread.wgmmas.back());
  }
}

}  // namespace
}  // namespace emulation

namespace dev {

using namespace emulation;

std::uint64_t wgmma_desc(const void* shared, unsigned leading_bytes, unsigned stride_bytes, Swizzle swizzle) {
  return std::uint64_t{(running_block->shared_address(shared) & 0x3ffff) >> 4} |
         std::uint64_t{leading_bytes >> 4} << 16 | std::uint64_t{stride_bytes >> 4} << 32 |
         static_cast<std::uint64_t>(swizzle) << 62;
}

void wgmma_bf16(float* d, int n, const std::uint32_t* a_registers, std::uint64_t a, std::uint64_t b,
                bool accumulate, bool b_transposed, Location where) {
  WgmmaArgument argument{d, a_registers, a, b, n, accumulate, b_transposed, where};
  group_collective(kWarpgroup, "wgmma.mma_async", compute_wgmma, &argument, where);
}

void wgmma_fence() {}

void wgmma_commit() {
  Thread& me = running_block->current();
  me.wgmma_group_ends.push_back(me.wgmmas.size());
}

void wgmma_wait_n(int pending_groups) {
  Thread& me = running_block->current();
  const std::size_t num_groups = me.wgmma_group_ends.size();
  if (num_groups <= static_cast<std::size_t>(pending_groups)) return;
  const std::size_t groups_done = num_groups - static_cast<std::size_t>(pending_groups);
  const std::size_t done = me.wgmma_group_ends[groups_done - 1];
  for (std::size_t i = 0; i < done; ++i) {
    const PendingWgmma& wgmma = me.wgmmas[i];
    std::copy(wgmma.results.begin(), wgmma.results.end(), wgmma.accumulators);
    if (race::enabled && me.index % kWarpgroup == 0) note_operand_reads(me.index, wgmma);
  }
  for (std::size_t i = done; i < me.wgmmas.size(); ++i) {  // still to be written
    std::fill_n(me.wgmmas[i].accumulators, me.wgmmas[i].results.size(), NAN);
  }
  me.wgmmas.erase(me.wgmmas.begin(), me.wgmmas.begin() + static_cast<std::ptrdiff_t>(done));
  me.wgmma_group_ends.erase(me.wgmma_group_ends.begin(),
                            me.wgmma_group_ends.begin() + static_cast<std::ptrdiff_t>(groups_done));
  for (std::size_t& end : me.wgmma_group_ends) end -= done;
}

}  // namespace dev
}  // namespace redline::cuda
