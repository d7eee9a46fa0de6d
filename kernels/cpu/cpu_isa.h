// The instruction sets of x86 that kernels are built for, and which of them this machine has.
#pragma once

#include <span>
#include <string_view>

#include "kernels/cpu/kernel_table.h"

namespace redline::cpu {

/// Fills `matrix` of `table`.
consteval KernelTable with_matrices(KernelTable table, const MatrixKernel* floats, const MatrixKernel* bf16,
                                    const MatrixKernel* quantized) {
  for (int i = 0; i < kNumFloatTypes; ++i) table.matrix[i] = floats + i;
  table.matrix[static_cast<int>(DType::kBF16)] = bf16;
  for (int i = 0; i < kNumQuantizedTypes; ++i) table.matrix[kNumFloatTypes + i] = quantized + i;
  table.matrix[static_cast<int>(DType::kF8E4M3)] = &kF8E4M3Portable;
  return table;
}

/// Those that this machine can run, the fastest first.
std::span<const KernelTable> usable_kernels();

/// The one of that name, the fastest where `isa` is empty. Throws std::invalid_argument that names what this
/// machine has.
const KernelTable& kernels_of(std::string_view isa);

}  // namespace redline::cpu
