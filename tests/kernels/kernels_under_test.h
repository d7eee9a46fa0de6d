// Every set of CPU kernels that this machine can run; those of VNNI and AVX-512 under emulation, so that they
// run anywhere.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "kernels/cpu/kernel_table.h"

namespace redline {
namespace cpu {

// Found by GoogleTest, which otherwise names a test by the table's bytes.
inline void PrintTo(const KernelTable& kernels, std::ostream* out) { *out << kernels.isa; }

}  // namespace cpu

/// Tables for CpuOps.
const std::vector<cpu::KernelTable>& kernels_under_test();

/// The table's name, for test names.
inline std::string name_of(const cpu::KernelTable& kernels) { return kernels.isa; }

}  // namespace redline
