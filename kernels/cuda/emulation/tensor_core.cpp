// ldmatrix and mma.sync, with the fragment layouts of the PTX ISA.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cuda/device_emulated.h"
#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/race.h"

namespace redline::cuda {
namespace emulation {
namespace {

constexpr std::uint32_t kWholeWarp = 0xffffffffu;

struct LdmatrixArgument {
  std::uint32_t* result;
  const unsigned char* row;
  int num_matrices;
  bool transposed;
  Location where;
};

/// Lane 8 i + r holds the address of row r of matrix i; lane t receives row t / 4, columns 2 (t % 4) and the
/// next.
void compute_ldmatrix(void* const* lanes, std::uint32_t) {
  Block& block = *running_block;
  const int num_matrices = static_cast<const LdmatrixArgument*>(lanes[0])->num_matrices;
  std::uint16_t matrices[4][8][8];
  for (int i = 0; i < num_matrices; ++i) {
    int rows_in_bank_group[8] = {};
    for (int r = 0; r < 8; ++r) {
      const int lane = i * 8 + r;
      const auto& argument = *static_cast<const LdmatrixArgument*>(lanes[lane]);
      if (reinterpret_cast<std::uintptr_t>(argument.row) % 16) {
        fail(
            text("ldmatrix: row address not 16-byte aligned, lane ", lane, " at ", describe(argument.where)));
      }
      if (!block.in_shared(argument.row, 16)) {
        fail(text("ldmatrix: address outside shared memory, lane ", lane, " at ", describe(argument.where)));
      }
      if (race::enabled) {
        race::access_as(block.current().warp * 32 + lane, argument.row, 16, race::Access::kRead, nullptr,
                        "ldmatrix", &argument.where);
      }
      std::memcpy(matrices[i][r], argument.row, 16);  // ASan checks this copy
      ++rows_in_bank_group[block.shared_address(argument.row) / 16 % 8];
    }
    ++block.stats.ldmatrix_matrices;
    block.stats.ldmatrix_wavefronts +=
        static_cast<std::uint64_t>(*std::max_element(rows_in_bank_group, rows_in_bank_group + 8));
  }
  for (int lane = 0; lane < 32; ++lane) {
    auto& argument = *static_cast<LdmatrixArgument*>(lanes[lane]);
    const int row = lane / 4, column = lane % 4 * 2;
    for (int i = 0; i < num_matrices; ++i) {
      const auto& m = matrices[i];
      const std::uint32_t low = argument.transposed ? m[column][row] : m[row][column];
      const std::uint32_t high = argument.transposed ? m[column + 1][row] : m[row][column + 1];
      argument.result[i] = low | high << 16;
    }
  }
}

void ldmatrix(std::uint32_t* result, const void* row, int num_matrices, bool transposed,
              const char* operation, const Location& where) {
  LdmatrixArgument argument{result, static_cast<const unsigned char*>(row), num_matrices, transposed, where};
  warp_collective(kWholeWarp, operation, compute_ldmatrix, &argument, where);
}

struct MmaArgument {
  float* d;
  const std::uint32_t* a;
  std::uint32_t b0, b1;
};

float low_bf16(std::uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float high_bf16(std::uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }

/// With g = lane / 4 and q = 2 (lane % 4): A holds (g, q), (g + 8, q), (g, q + 8), (g + 8, q + 8); B (q, g),
/// (q + 8, g); D (g, q), (g, q + 1), (g + 8, q), (g + 8, q + 1).
void compute_mma(void* const* lanes, std::uint32_t) {
  ++running_block->stats.mma;
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& argument = *static_cast<const MmaArgument*>(lanes[lane]);
    const int g = lane / 4, q = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      a[g + i % 2 * 8][q + i / 2 * 8] = low_bf16(argument.a[i]);
      a[g + i % 2 * 8][q + i / 2 * 8 + 1] = high_bf16(argument.a[i]);
      d[g + i / 2 * 8][q + i % 2] = argument.d[i];
    }
    b[q][g] = low_bf16(argument.b0);
    b[q + 1][g] = high_bf16(argument.b0);
    b[q + 8][g] = low_bf16(argument.b1);
    b[q + 9][g] = high_bf16(argument.b1);
  }
  for (int i = 0; i < 16; ++i) {
    float sum[8] = {};
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) sum[j] += a[i][k] * b[k][j];
    }
    for (int j = 0; j < 8; ++j) d[i][j] += sum[j];
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& argument = *static_cast<const MmaArgument*>(lanes[lane]);
    const int g = lane / 4, q = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) argument.d[i] = d[g + i / 2 * 8][q + i % 2];
  }
}

}  // namespace
}  // namespace emulation

namespace dev {

void ldmatrix_x4(std::uint32_t (&result)[4], const void* row, emulation::Location where) {
  emulation::ldmatrix(result, row, 4, false, "ldmatrix.x4", where);
}
void ldmatrix_x4_trans(std::uint32_t (&result)[4], const void* row, emulation::Location where) {
  emulation::ldmatrix(result, row, 4, true, "ldmatrix.x4.trans", where);
}
void ldmatrix_x2(std::uint32_t (&result)[2], const void* row, emulation::Location where) {
  emulation::ldmatrix(result, row, 2, false, "ldmatrix.x2", where);
}
void ldmatrix_x2_trans(std::uint32_t (&result)[2], const void* row, emulation::Location where) {
  emulation::ldmatrix(result, row, 2, true, "ldmatrix.x2.trans", where);
}
void mma_bf16_16816(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                    emulation::Location where) {
  emulation::MmaArgument argument{d, a, b0, b1};
  emulation::warp_collective(emulation::kWholeWarp, "mma.m16n8k16.bf16", emulation::compute_mma, &argument,
                             where);
}

}  // namespace dev
}  // namespace redline::cuda
