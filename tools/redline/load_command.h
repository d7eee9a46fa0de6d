// What bench serve and bench load share: the flags of a load, its sweep, and its output.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tools/load/result.h"
#include "tools/load/target.h"
#include "tools/load/workload.h"
#include "tools/redline/flags.h"

namespace redline {

class LoadFlags {
 public:
  void add_to(Flags& flags);

  bool ignore_eos() const { return ignore_eos_; }
  float temperature() const { return temperature_; }
  /// Runs every point of the sweep against `target` and prints the results: the exit status. `named` holds
  /// what a point says of the target; units are below `num_units`.
  int run(load::Target& target, const load::LoadPoint& named, std::int32_t num_units) const;

 private:
  struct Setting {
    double rate = load::kAllAtOnce;
    std::int64_t concurrency = 0;
  };
  std::vector<Setting> sweep() const;
  load::WorkloadOptions workload_options(const Setting& setting, std::int32_t num_units) const;
  std::vector<load::LoadRequest> workload(const load::WorkloadOptions& options) const;

  std::int32_t num_prompts_ = 100, num_warmups_ = 0, num_prefixes_ = 1;
  std::string input_ = "128", output_ = "128", rates_ = "inf", ramp_, dataset_, trace_, plot_, label_;
  std::vector<std::int64_t> concurrencies_;
  std::vector<std::string> goodput_;
  std::int64_t prefix_ = 0;
  float burstiness_ = 1, speed_ = 1, temperature_ = 0;
  std::uint64_t seed_ = 0;
  bool ignore_eos_ = false, detailed_ = false, json_ = false;
};

}  // namespace redline
