// Sixteen f32 lanes in plain C++: what the other instruction sets' lanes mean, lane by lane. Internal
// linkage, as theirs.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/convert.h"

namespace redline::cpu {
namespace {

struct Lanes {
  static constexpr const char* kIsa = "portable";
  /// A register tile has at most so many rows and so many Lanes of sums.
  static constexpr int kTileRows = 2, kAccumulators = 2;

  // The compiler's own vectors become whatever registers the machine has; four fit most.
  using Floats = float __attribute__((vector_size(16)));
  using Bits = std::uint32_t __attribute__((vector_size(16)));
  Floats four[4];

  static Lanes broadcast(float x) {
    return each([x](int) { return Floats{x, x, x, x}; });
  }
  static Lanes load(const float* p) {
    Lanes x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  void store(float* p) const { std::memcpy(p, four, sizeof four); }
  /// The first `count` lanes (any number), zero elsewhere; memory past them is not touched.
  static Lanes load_first(const float* p, int count) {
    float lanes[16] = {};
    for (int i = 0; i < 16 && i < count; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  void store_first(float* p, int count) const {
    for (int i = 0; i < 16 && i < count; ++i) p[i] = four[i / 4][i % 4];
  }

  /// Of 16 signed bytes, of 16 f16.
  static Lanes load_int8(const void* p) {
    float lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = static_cast<float>(static_cast<const std::int8_t*>(p)[i]);
    return load(lanes);
  }
  static Lanes load_half(const void* p) {
    float lanes[16];
    for (int i = 0; i < 16; ++i) lanes[i] = half_at(static_cast<const char*>(p) + 2 * i);
    return load(lanes);
  }
  static float half_at(const void* p) {
    std::uint16_t half;
    std::memcpy(&half, p, sizeof half);
    return f16_to_f32(half);
  }
  /// Rounds x to f16 (nearest even), stores that and returns it.
  static float store_half(float x, void* p) {
    const std::uint16_t half = f32_to_f16(x);
    std::memcpy(p, &half, sizeof half);
    return f16_to_f32(half);
  }

  /// Of 16 pairs of bf16: the first of each, the second of each.
  static Lanes even_bf16(const void* p) {
    const Lanes pairs = load(static_cast<const float*>(p));
    return each([&](int i) { return as_floats(as_bits(pairs.four[i]) << 16); });
  }
  static Lanes odd_bf16(const void* p) {
    const Lanes pairs = load(static_cast<const float*>(p));
    return each([&](int i) { return as_floats(as_bits(pairs.four[i]) & 0xffff0000u); });
  }
  /// Rounds to nearest even; a NaN stays a NaN.
  void store_bf16(void* p) const {
    for (int i = 0; i < 16; ++i) {
      const float x = four[i / 4][i % 4];
      std::uint32_t bits;
      std::memcpy(&bits, &x, sizeof bits);
      bits = x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
      const auto half = static_cast<std::uint16_t>(bits);
      std::memcpy(static_cast<char*>(p) + 2 * i, &half, sizeof half);
    }
  }

  friend Lanes operator+(const Lanes& a, const Lanes& b) {
    return each([&](int i) { return a.four[i] + b.four[i]; });
  }
  friend Lanes operator-(const Lanes& a, const Lanes& b) {
    return each([&](int i) { return a.four[i] - b.four[i]; });
  }
  friend Lanes operator*(const Lanes& a, const Lanes& b) {
    return each([&](int i) { return a.four[i] * b.four[i]; });
  }
  friend Lanes operator/(const Lanes& a, const Lanes& b) {
    return each([&](int i) { return a.four[i] / b.four[i]; });
  }
  /// a b + c; rounded once where the machine can.
  static Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) {
    return each([&](int i) { return a.four[i] * b.four[i] + c.four[i]; });
  }
  /// b wherever either is NaN, as x86 has it.
  static Lanes max(const Lanes& a, const Lanes& b) {
    return each([&](int i) { return a.four[i] > b.four[i] ? a.four[i] : b.four[i]; });
  }
  static Lanes min(const Lanes& a, const Lanes& b) {
    return each([&](int i) { return a.four[i] < b.four[i] ? a.four[i] : b.four[i]; });
  }
  /// Floats whose bits are those of x shifted left by 23.
  static Lanes exponent_from_low_bits(const Lanes& x) {
    return each([&](int i) { return as_floats(as_bits(x.four[i]) << 23); });
  }
  /// x in the first `count` lanes (any number), `fill` in the others.
  static Lanes first(int count, Lanes x, const Lanes& fill) {
    for (int i = count < 0 ? 0 : count; i < 16; ++i) x.four[i / 4][i % 4] = fill.four[i / 4][i % 4];
    return x;
  }

  /// Always in the same order.
  float sum() const {
    const Floats s = (four[0] + four[1]) + (four[2] + four[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
  }
  float largest() const {
    float x = four[0][0];
    for (int i = 1; i < 16; ++i) x = x > four[i / 4][i % 4] ? x : four[i / 4][i % 4];
    return x;
  }

  static void prefetch(const void* p) { __builtin_prefetch(p); }

 private:
  template <class Function>
  static Lanes each(Function&& function) {
    return {{function(0), function(1), function(2), function(3)}};
  }
  static Floats as_floats(Bits bits) { return reinterpret_cast<Floats>(bits); }
  static Bits as_bits(Floats floats) { return reinterpret_cast<Bits>(floats); }
};

}  // namespace
}  // namespace redline::cpu
