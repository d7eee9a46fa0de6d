// The durable ledger: an SQLite file of calls and runs, in write-ahead mode. A process that is killed loses
// what it had not put; what it put is whole.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "accounts/account.h"

struct sqlite3;

namespace redline {

enum class GroupBy : std::uint8_t { kTenant, kModel, kRun, kDay };
inline constexpr const char* kGroupNames[] = {"tenant", "model", "run", "day"};

/// The calls of one tenant, model, run or day (UTC), added up.
struct AccountSum {
  std::string group;
  std::int64_t num_calls = 0, prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  std::array<double, kNumPhases> flops{}, bytes{}, device_s{};
  std::optional<double> joules{};  // nothing unless known of every call

  double device_seconds() const { return device_s[0] + device_s[1]; }
};

/// Everything throws std::runtime_error naming the file and what SQLite says. One thread at a time; several
/// processes may share a file.
class AccountStore {
 public:
  enum class Mode { kWrite, kRead };
  /// To write, makes the file and its folder where there are none; to read, requires it.
  AccountStore(std::string path, Mode mode);
  ~AccountStore();
  AccountStore(const AccountStore&) = delete;
  AccountStore& operator=(const AccountStore&) = delete;

  /// All of it or nothing.
  void put(const RunAccount& run, std::span<const CallAccount> calls);
  /// Of calls that began at `since_s` (Unix time) or later, in order of device time, the longest first; days
  /// in order of time.
  std::vector<AccountSum> sums(GroupBy group, double since_s) const;
  /// Of runs seen since then; whole runs.
  std::vector<RunAccount> runs(double since_s) const;

 private:
  void execute(const char* sql) const;
  void prepare_file();

  std::string path_;
  std::unique_ptr<sqlite3, void (*)(sqlite3*)> database_;
};

}  // namespace redline
