// Puts accounts into the ledger from a thread of its own, so that no stream waits for a disk.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "accounts/account_store.h"

namespace redline {

class AccountWriter;

/// One call's account while it runs: its server tells what it has used so far, and its engine at last what it
/// used. Thread-safe.
class CallRecord {
 public:
  CallRecord(AccountWriter& writer, std::string tenant);

  /// Ignored after the end.
  void update(const RequestUsage& usage);
  void end(const RequestUsage& usage);

 private:
  void put(const RequestUsage& usage);

  AccountWriter& writer_;
  std::mutex mutex_;
  CallAccount account_;
};

/// What is given is in the file half a second later. Where the file cannot be written, everything is kept and
/// tried again, and lost only if that goes on to the end.
class AccountWriter {
 public:
  using FillTimes = std::function<void(RunAccount&)>;
  using Tell = std::function<void(const std::string& failure)>;

  /// `times` fills in what changes of the run, on the writer's thread, until end_times(). `tell` is told
  /// there why an attempt failed, and with an empty text that one succeeded again. Throws where the file
  /// cannot be opened.
  AccountWriter(const std::string& path, RunAccount run, FillTimes times, Tell tell = {});
  /// Writes what is left.
  ~AccountWriter();

  /// A call of `tenant`'s begins. The writer outlives it.
  std::shared_ptr<CallRecord> begin(std::string tenant);
  /// A call's account so far, in place of what was given of it before. Any thread.
  void put(CallAccount call);
  /// Fills the times in once more and never again: what they are read from may go before the writer does.
  void end_times();

 private:
  friend class CallRecord;
  void work();
  void write(std::map<std::int64_t, CallAccount>& calls);

  const std::string run_id_, model_;
  std::atomic<std::int64_t> num_calls_{0};
  AccountStore store_;
  std::mutex run_mutex_;
  RunAccount run_;  // both guarded by run_mutex_
  FillTimes times_;
  const Tell tell_;
  std::string failure_;  // of the thread's last attempt
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::map<std::int64_t, CallAccount> calls_;  // not yet written, by number
  std::thread thread_;
};

}  // namespace redline
