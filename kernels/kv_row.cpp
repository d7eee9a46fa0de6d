#include "kernels/kv_row.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/check.h"
#include "kernels/convert.h"

namespace redline {
namespace {

std::int64_t index_of(const KvLayerView& kv, KvSide side, int offset, int dim) {
  return kv.element_bytes() * (side == KvSide::kKey ? kv.k_index(offset, dim) : kv.v_index(offset, dim));
}
std::int64_t scale_of(const KvLayerView& kv, KvSide side, int offset, int group) {
  return side == KvSide::kKey ? kv.k_scale(offset, group) : kv.v_scale(offset, group);
}

}  // namespace

void write_kv_row(const KvLayerView& kv, KvSide side, std::byte* tile, int offset, const float* row) {
  REDLINE_CHECK(kv.dtype == DType::kF32 || kv.dtype == DType::kBF16 || kv.dtype == DType::kQ8_0,
                "the cache is f32, bf16 or q8_0");
  if (kv.dtype != DType::kQ8_0) {
    for (int i = 0; i < kv.head_dim; ++i) {
      const std::uint16_t rounded = f32_to_bf16(row[i]);
      std::memcpy(tile + index_of(kv, side, offset, i),
                  kv.dtype == DType::kF32 ? static_cast<const void*>(row + i) : &rounded,
                  static_cast<std::size_t>(kv.element_bytes()));
    }
    return;
  }
  for (int first = 0; first < kv.head_dim; first += 32) {
    float largest = 0;
    for (int i = first; i < first + 32; ++i) largest = std::max(largest, std::fabs(row[i]));
    const std::uint16_t scale = f32_to_f16(largest / 127);
    std::memcpy(tile + scale_of(kv, side, offset, first / 32), &scale, 2);
    const float inverse = f16_to_f32(scale) > 0 ? 1 / f16_to_f32(scale) : 0;
    for (int i = first; i < first + 32; ++i) {
      const float code = std::clamp(std::nearbyint(row[i] * inverse), -127.0f, 127.0f);
      tile[index_of(kv, side, offset, i)] = static_cast<std::byte>(static_cast<std::int8_t>(code));
    }
  }
}

float read_kv(const KvLayerView& kv, KvSide side, const std::byte* tile, int offset, int dim) {
  const std::byte* element = tile + index_of(kv, side, offset, dim);
  if (kv.dtype == DType::kQ8_0) {
    std::uint16_t scale;
    std::memcpy(&scale, tile + scale_of(kv, side, offset, dim / 32), 2);
    return f16_to_f32(scale) * static_cast<float>(std::to_integer<std::int8_t>(*element));
  }
  float value;
  dequantize_row(kv.dtype, element, 1, &value);
  return value;
}

}  // namespace redline
