// What one call, or one run of a server, used: rows of the durable ledger.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/request.h"

namespace redline {

/// A call so far. Calls are told apart by `run` and `number`; what is known of one later replaces what was
/// known before, so nothing is counted twice.
struct CallAccount {
  std::string run;          // RunAccount::run
  std::int64_t number = 0;  // of the call within its run
  std::string tenant, model;
  double started_s = 0;  // Unix time
  bool ended = false;
  std::int64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  std::array<std::int64_t, kNumPhases> flops{}, bytes{};  // executed, in vain or not; of bytes the compulsory
  std::array<double, kNumPhases> device_s{};              // of the device's busy time, attributed
  std::optional<double> joules{};                         // nothing: no sensor tells
};

/// One process that serves a model. Its calls' device seconds sum to `busy_s` once none is under way.
struct RunAccount {
  std::string run;  // unique
  std::string model, device;
  double started_s = 0, seen_s = 0;  // Unix time; the last that is known of it
  double idle_s = 0, gap_s = 0, busy_s = 0;
};

/// A new run's name: random.
std::string new_run_id();
/// Unix time.
double unix_seconds();
/// Fills in what `usage` knows.
void set_usage(CallAccount& account, const RequestUsage& usage);

}  // namespace redline
