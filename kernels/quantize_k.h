// Quantisers of types that search for scales: one block each. Used by quantize_row.
#pragma once

#include <cstddef>

namespace redline {

/// Each stores x[0 .. block) at `block`, whose bytes must be zero.
void quantize_q2_k(const float* x, std::byte* block);
void quantize_q3_k(const float* x, std::byte* block);
void quantize_q4_k(const float* x, std::byte* block);
void quantize_q5_k(const float* x, std::byte* block);
void quantize_q6_k(const float* x, std::byte* block);
void quantize_iq4_nl(const float* x, std::byte* block);
void quantize_iq4_xs(const float* x, std::byte* block);

}  // namespace redline
