// One token's K or V of one head, into a tile of the cache and out of it: the meaning of KvLayerView's
// layouts, for the reference and for tests.
#pragma once

#include "kernels/tensor.h"

namespace redline {

enum class KvSide : std::uint8_t { kKey, kValue };

/// Stores row[0 .. head_dim) as the token at `offset` of the tile. bf16 rounds to nearest even. q8_0: of 32
/// dimensions, scale = f16(max |x| / 127), codes round(x / scale), ties to even, at most 127 either way.
void write_kv_row(const KvLayerView& kv, KvSide side, std::byte* tile, int offset, const float* row);

/// Dimension `dim` of the token at `offset`.
float read_kv(const KvLayerView& kv, KvSide side, const std::byte* tile, int offset, int dim);

}  // namespace redline
