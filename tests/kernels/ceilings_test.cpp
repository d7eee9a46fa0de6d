#include "kernels/cpu/ceilings.h"

#include <gtest/gtest.h>

namespace redline {
namespace {

CeilingOptions quick(int threads) {
  return {.isa = {},
          .threads = threads,
          .llc_bytes = 4 << 20,
          .memory_bytes = 32 << 20,
          .samples = 1,
          .sample_s = 1e-4};
}

TEST(Ceilings, EveryUsableInstructionSetHasRates) {
  const auto isas = ceiling_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.back(), "portable");
  for (const std::string& isa : isas) {
    CeilingOptions options = quick(1);
    options.isa = isa;
    const Ceilings c = measure_ceilings(options);
    EXPECT_EQ(c.isa, isa);
    EXPECT_EQ(c.threads, 1);
    for (const ComputeType type : {ComputeType::kF32, ComputeType::kInt16, ComputeType::kInt8})
      EXPECT_GT(c.ops_per_s[static_cast<std::size_t>(type)], 1e6) << isa << " " << name(type);
    EXPECT_EQ(c.ops_per_s[static_cast<std::size_t>(ComputeType::kF64)], 0) << "not measured is unknown";
    EXPECT_EQ(c.ops_per_s[static_cast<std::size_t>(ComputeType::kBF16)] > 0,
              isa == "avx512_bf16" || isa == "avx512_amx");
    EXPECT_GT(c.memory_bytes_per_s, 1e6) << isa;
    EXPECT_GT(c.llc_bytes_per_s, 1e6) << isa;
    EXPECT_EQ(c.peaks().flops, c.ops_per_s);
  }
}

TEST(Ceilings, CacheOfUnknownSizeIsNotMeasured) {
  CeilingOptions options = quick(2);
  options.llc_bytes = 0;
  const Ceilings c = measure_ceilings(options);
  EXPECT_EQ(c.threads, 2);
  EXPECT_EQ(c.llc_bytes_per_s, 0);
}

TEST(Ceilings, UnknownInstructionSetIsRefused) {
  CeilingOptions options = quick(1);
  options.isa = "avx1024";
  EXPECT_THROW(measure_ceilings(options), std::invalid_argument);
}

}  // namespace
}  // namespace redline
