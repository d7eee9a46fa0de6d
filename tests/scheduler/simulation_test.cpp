#include "tests/scheduler/simulation.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

namespace redline {
namespace {

// Seeds 0, 1, ...: REDLINE_SIM_SEEDS of them, from REDLINE_SIM_FIRST_SEED.
std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

volatile std::uint64_t running_seed = 0;

// A failed CHECK aborts the program: say where.
void print_seed(int) {
  std::fprintf(stderr, "simulation of seed %ju aborted\n", std::uintmax_t{running_seed});
}

TEST(Simulation, EverySeedKeepsEveryPromise) {
  const std::uint64_t first = from_environment("REDLINE_SIM_FIRST_SEED", 0);
  const std::uint64_t count = from_environment("REDLINE_SIM_SEEDS", 10'000);
  const auto previous = std::signal(SIGABRT, print_seed);
  SimulationTally sum;
  int num_failures = 0;
  for (std::uint64_t seed = first; seed < first + count && num_failures < 5; ++seed) {
    running_seed = seed;
    try {
      sum += Simulation(seed).run();
    } catch (const std::exception& broken) {
      ++num_failures;
      ADD_FAILURE() << "seed " << seed << ": " << broken.what();
    }
  }
  std::signal(SIGABRT, previous);
  std::printf(
      "%ju seeds: %jd steps, %jd tokens (%jd recomputed), %jd hit, %jd preemptions, %jd block copies, %jd "
      "forks; "
      "%jd completed, %jd aborted, %jd failed, %jd rejected\n",
      std::uintmax_t{count}, std::intmax_t{sum.steps}, std::intmax_t{sum.tokens},
      std::intmax_t{sum.recomputed_tokens}, std::intmax_t{sum.hit_tokens}, std::intmax_t{sum.preemptions},
      std::intmax_t{sum.block_copies}, std::intmax_t{sum.forks}, std::intmax_t{sum.completed},
      std::intmax_t{sum.aborted}, std::intmax_t{sum.failed}, std::intmax_t{sum.rejected});
  if (count < 1000 || num_failures > 0) return;
  // No idle worlds: each of these happens often.
  const auto n = static_cast<std::int64_t>(count);
  EXPECT_GT(sum.completed, n);
  EXPECT_GT(sum.preemptions, n / 4);
  EXPECT_GT(sum.recomputed_tokens, n);
  EXPECT_GT(sum.hit_tokens, n);
  EXPECT_GT(sum.block_copies, n / 8);
  EXPECT_GT(sum.forks, n / 8);
  EXPECT_GT(sum.freed_blocks, n / 8);
  EXPECT_GT(sum.steps_at_limit, n / 4);
  EXPECT_GT(sum.aborted, n / 4);
  EXPECT_GT(sum.failed, n / 8);
  EXPECT_GT(sum.rejected, n / 8);
}

TEST(Simulation, PlansAreAFunctionOfTheCallsMade) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Simulation one(seed), other(seed);
    EXPECT_EQ(one.run().trace, other.run().trace) << "seed " << seed;
  }
}

}  // namespace
}  // namespace redline
