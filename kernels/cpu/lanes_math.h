// Functions of sixteen lanes, written once for every instruction set.
#pragma once

namespace redline::cpu {

/// 2^x for x <= 127, within 1.1 ulp from -126 up; exactly 0 from -126.5 down, exactly 1 at 0; NaN stays NaN.
/// x splits into the nearest integer, which becomes the exponent, and a rest in [-1/2, 1/2], whose power is
/// a polynomial with relative error 2e-9.
template <class L>
inline L exp2(L x) {
  // Adding 1.5 x 2^23 leaves the nearest integer in the low bits; 127 is the exponent's bias.
  const L shift = L::broadcast(12582912.0f + 127.0f);
  x = L::min(L::broadcast(127.0f), L::max(L::broadcast(-127.0f), x));
  const L shifted = x + shift;
  const L rest = x - (shifted - shift);
  L p = L::broadcast(0x1.41fbbcp-13f);
  p = L::multiply_add(p, rest, L::broadcast(0x1.5f3e54p-10f));
  p = L::multiply_add(p, rest, L::broadcast(0x1.3b2d4cp-7f));
  p = L::multiply_add(p, rest, L::broadcast(0x1.c6aee8p-5f));
  p = L::multiply_add(p, rest, L::broadcast(0x1.ebfbdcp-3f));
  p = L::multiply_add(p, rest, L::broadcast(0x1.62e430p-1f));
  p = L::multiply_add(p, rest, L::broadcast(1.0f));
  return p * L::exponent_from_low_bits(shifted);
}

/// x / (1 + e^-x).
template <class L>
inline L silu(L x) {
  const L one = L::broadcast(1.0f);
  return x / (one + exp2(x * L::broadcast(-1.442695041f)));
}

}  // namespace redline::cpu
