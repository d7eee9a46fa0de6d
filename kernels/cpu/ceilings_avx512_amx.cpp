// Loops of AMX's products, on four tiles of sums.
#include "kernels/cpu/ceiling_loops.h"

#if defined(__x86_64__)
#include "kernels/cpu/amx_tiles.h"

namespace redline::cpu {
namespace {

template <class Dot>
std::int64_t tile_loop(std::int64_t iterations, Dot&& dot) {
  TileShapes shapes;
  for (int i = 0; i < 8; ++i) shapes.set(i, 16, 64);
  AmxTiles::configure(shapes);
  for (std::int64_t i = 0; i < iterations; ++i) dot();
  alignas(64) std::int32_t sums[16][16];
  AmxTiles::store<0>(sums, 64);
  AmxTiles::release();
  return sums[0][0];
}

std::int64_t bf16_loop(std::int64_t iterations) {
  return tile_loop(iterations, [] {
    AmxTiles::dot_bf16<0, 4, 6>();
    AmxTiles::dot_bf16<1, 4, 7>();
    AmxTiles::dot_bf16<2, 5, 6>();
    AmxTiles::dot_bf16<3, 5, 7>();
  });
}

std::int64_t int8_loop(std::int64_t iterations) {
  return tile_loop(iterations, [] {
    AmxTiles::dot_bytes<0, 4, 6>();
    AmxTiles::dot_bytes<1, 4, 7>();
    AmxTiles::dot_bytes<2, 5, 6>();
    AmxTiles::dot_bytes<3, 5, 7>();
  });
}

}  // namespace

constinit const ComputeLoop kBF16LoopAvx512Amx = {ComputeType::kBF16, 4 * 16 * 16 * 32 * 2, bf16_loop};
constinit const ComputeLoop kInt8LoopAvx512Amx = {ComputeType::kInt8, 4 * 16 * 16 * 64 * 2, int8_loop};

}  // namespace redline::cpu
#endif
