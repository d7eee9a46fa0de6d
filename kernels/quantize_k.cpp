// Quantisers of the types whose groups share a block's scales: K types and IQ4_XS. Every group's scale (and
// minimum) is fitted alone, then rounded to a multiple of the block's d (and m), then codes are rounded anew
// to what that leaves. dequantize.cpp tells how each block is read.
#include "kernels/quantize_k.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/convert.h"
#include "kernels/quantize_search.h"

namespace redline {
namespace {

constexpr int kElements = 256;

// Rounds d to fp16 at `to` and returns what will be read.
float store_half(float d, std::byte* to) {
  store_f16(d, to);
  return f16_to_f32(load_u16(to));
}

void put_bits(std::byte* bytes, int at, int shift, int bits) {
  bytes[at] |= static_cast<std::byte>(bits << shift);
}

// Where elements lie: as in dequantize.cpp.
void put_nibble_of_256(std::byte* quants, int i, int nibble) {
  put_bits(quants, i / 64 * 32 + i % 32, i % 64 < 32 ? 0 : 4, nibble);
}
void put_pair_of_256(std::byte* quants, int i, int pair) {
  put_bits(quants, i / 128 * 32 + i % 32, i / 32 % 4 * 2, pair);
}
void put_bit_of_256(std::byte* quants, int i, int bit) { put_bits(quants, i % 32, i / 32, bit); }

/// Groups' scales as multiples of d, from `low` (which the furthest takes) to `high`.
template <int kGroups>
struct RoundedScales {
  float d;
  int scales[kGroups];

  RoundedScales(const float* fitted, int low, int high, std::byte* d_at) {
    float furthest = 0.0F;
    for (int g = 0; g < kGroups; ++g)
      if (!(std::abs(fitted[g]) <= std::abs(furthest))) furthest = fitted[g];
    d = store_half(furthest / static_cast<float>(low), d_at);
    const float inverse = reciprocal(d);
    for (int g = 0; g < kGroups; ++g)
      scales[g] = static_cast<int>(nearest_code(fitted[g] * inverse, low, high));
  }
  float inverse_of(int g) const { return reciprocal(d * static_cast<float>(scales[g])); }
};

/// Groups of a block with scales and minima: both as multiples, of d and m, up to `most`.
template <int kGroups>
struct RoundedMinima {
  static constexpr int kGroup = kElements / kGroups;
  float d, m;
  int scales[kGroups], minima[kGroups];
  int codes[kElements];

  RoundedMinima(const float* x, int most, int highest_code, std::byte* d_at, std::byte* m_at) {
    ScaleAndMinimum fitted[kGroups];
    float largest_scale = 0.0F, largest_minimum = 0.0F;
    for (int g = 0; g < kGroups; ++g) {
      fitted[g] = fit_scale_and_minimum(x + kGroup * g, kGroup, highest_code);
      if (!(fitted[g].scale <= largest_scale)) largest_scale = fitted[g].scale;
      if (!(fitted[g].minimum <= largest_minimum)) largest_minimum = fitted[g].minimum;
    }
    d = store_half(largest_scale / static_cast<float>(most), d_at);
    m = store_half(largest_minimum / static_cast<float>(most), m_at);
    const float inverse_d = reciprocal(d), inverse_m = reciprocal(m);
    for (int g = 0; g < kGroups; ++g) {
      scales[g] = static_cast<int>(nearest_code(fitted[g].scale * inverse_d, 0, most));
      minima[g] = static_cast<int>(nearest_code(fitted[g].minimum * inverse_m, 0, most));
      const float inverse = reciprocal(d * static_cast<float>(scales[g]));
      const float minimum = m * static_cast<float>(minima[g]);
      for (int i = kGroup * g; i < kGroup * (g + 1); ++i)
        codes[i] = static_cast<int>(nearest_code((x[i] + minimum) * inverse, 0, highest_code));
    }
  }
};

}  // namespace

void quantize_q2_k(const float* x, std::byte* block) {
  const RoundedMinima<16> rounded(x, 15, 3, block + 80, block + 82);
  for (int g = 0; g < 16; ++g) put_bits(block, g, 0, rounded.scales[g] | rounded.minima[g] << 4);
  for (int i = 0; i < kElements; ++i) put_pair_of_256(block + 16, i, rounded.codes[i]);
}

void quantize_q3_k(const float* x, std::byte* block) {
  float fitted[16];
  for (int g = 0; g < 16; ++g) fitted[g] = fit_scale(x + 16 * g, 16, -4, 3);
  const RoundedScales<16> rounded(fitted, -32, 31, block + 108);
  for (int g = 0; g < 16; ++g) {
    const int s = rounded.scales[g] + 32;
    put_bits(block + 96, g % 8, g / 8 * 4, s & 15);
    put_bits(block + 104, g % 4, g / 4 * 2, s >> 4);
    const float inverse = rounded.inverse_of(g);
    for (int i = 16 * g; i < 16 * (g + 1); ++i) {
      const int code = static_cast<int>(nearest_code(x[i] * inverse, -4, 3)) + 4;
      put_pair_of_256(block + 32, i, code & 3);
      put_bit_of_256(block, i, code >> 2);
    }
  }
}

// Q4_K and Q5_K, but for the codes.
static void put_scales_and_minima(const RoundedMinima<8>& rounded, std::byte* packed) {
  for (int g = 0; g < 4; ++g) {
    put_bits(packed, g, 0, rounded.scales[g] | rounded.scales[g + 4] >> 4 << 6);
    put_bits(packed, g + 4, 0, rounded.minima[g] | rounded.minima[g + 4] >> 4 << 6);
    put_bits(packed, g + 8, 0, (rounded.scales[g + 4] & 15) | (rounded.minima[g + 4] & 15) << 4);
  }
}

void quantize_q4_k(const float* x, std::byte* block) {
  const RoundedMinima<8> rounded(x, 63, 15, block, block + 2);
  put_scales_and_minima(rounded, block + 4);
  for (int i = 0; i < kElements; ++i) put_nibble_of_256(block + 16, i, rounded.codes[i]);
}

void quantize_q5_k(const float* x, std::byte* block) {
  const RoundedMinima<8> rounded(x, 63, 31, block, block + 2);
  put_scales_and_minima(rounded, block + 4);
  for (int i = 0; i < kElements; ++i) {
    put_nibble_of_256(block + 48, i, rounded.codes[i] & 15);
    put_bit_of_256(block + 16, i, rounded.codes[i] >> 4);
  }
}

void quantize_q6_k(const float* x, std::byte* block) {
  float fitted[16];
  for (int g = 0; g < 16; ++g) fitted[g] = fit_scale(x + 16 * g, 16, -32, 31);
  const RoundedScales<16> rounded(fitted, -128, 127, block + 208);
  for (int g = 0; g < 16; ++g) {
    block[192 + g] = static_cast<std::byte>(rounded.scales[g]);
    const float inverse = rounded.inverse_of(g);
    for (int i = 16 * g; i < 16 * (g + 1); ++i) {
      const int code = static_cast<int>(nearest_code(x[i] * inverse, -32, 31)) + 32;
      put_bits(block, i / 128 * 64 + i % 64, i % 128 < 64 ? 0 : 4, code & 15);
      put_pair_of_256(block + 128, i, code >> 4);
    }
  }
}

void quantize_iq4_nl(const float* x, std::byte* block) {
  const float inverse = reciprocal(store_half(fit_table_scale(x, 32), block));
  for (int i = 0; i < 32; ++i) put_bits(block + 2, i % 16, i < 16 ? 0 : 4, nearest_iq4(x[i] * inverse));
}

void quantize_iq4_xs(const float* x, std::byte* block) {
  float fitted[8];
  for (int g = 0; g < 8; ++g) fitted[g] = fit_table_scale(x + 32 * g, 32);
  const RoundedScales<8> rounded(fitted, -32, 31, block);
  for (int g = 0; g < 8; ++g) {
    const int s = rounded.scales[g] + 32;
    put_bits(block + 4, g / 2, g % 2 * 4, s & 15);
    put_bits(block + 2, g / 4, g % 4 * 2, s >> 4);
    const float inverse = rounded.inverse_of(g);
    for (int i = 0; i < 32; ++i)
      put_bits(block + 8 + 16 * g, i % 16, i < 16 ? 0 : 4, nearest_iq4(x[32 * g + i] * inverse));
  }
}

}  // namespace redline
