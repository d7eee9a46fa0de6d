#include "accounts/account_writer.h"

#include <chrono>
#include <stdexcept>
#include <utility>
#include <vector>

namespace redline {

constexpr auto kInterval = std::chrono::milliseconds(500);

CallRecord::CallRecord(AccountWriter& writer, std::string tenant) : writer_(writer) {
  account_.run = writer.run_id_;
  account_.model = writer.model_;
  account_.number = ++writer.num_calls_;
  account_.tenant = std::move(tenant);
  account_.started_s = unix_seconds();
}

void CallRecord::update(const RequestUsage& usage) {
  const std::lock_guard lock(mutex_);
  if (!account_.ended) put(usage);
}

void CallRecord::end(const RequestUsage& usage) {
  const std::lock_guard lock(mutex_);
  account_.ended = true;
  put(usage);
}

void CallRecord::put(const RequestUsage& usage) {
  set_usage(account_, usage);
  writer_.put(account_);
}

AccountWriter::AccountWriter(const std::string& path, RunAccount run, FillTimes times, Tell tell)
    : run_id_(run.run),
      model_(run.model),
      store_(path, AccountStore::Mode::kWrite),
      run_(std::move(run)),
      times_(std::move(times)),
      tell_(std::move(tell)) {
  store_.put(run_, {});  // a file that cannot be written is found here
  thread_ = std::thread([this] { work(); });
}

AccountWriter::~AccountWriter() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

std::shared_ptr<CallRecord> AccountWriter::begin(std::string tenant) {
  return std::make_shared<CallRecord>(*this, std::move(tenant));
}

void AccountWriter::put(CallAccount call) {
  const std::lock_guard lock(mutex_);
  calls_.insert_or_assign(call.number, std::move(call));
}

void AccountWriter::end_times() {
  const std::lock_guard lock(run_mutex_);
  if (times_) times_(run_);
  times_ = {};
}

void AccountWriter::work() {
  for (bool stop = false; !stop;) {
    std::map<std::int64_t, CallAccount> calls;
    {
      std::unique_lock lock(mutex_);
      stop = stopped_.wait_for(lock, kInterval, [this] { return stop_; });
      calls.swap(calls_);
    }
    write(calls);
  }
}

void AccountWriter::write(std::map<std::int64_t, CallAccount>& calls) {
  std::vector<CallAccount> rows;
  for (const auto& [number, call] : calls) rows.push_back(call);
  std::string failure;
  try {
    const std::lock_guard lock(run_mutex_);
    if (times_) times_(run_);
    run_.seen_s = unix_seconds();
    store_.put(run_, rows);
  } catch (const std::runtime_error& error) {
    failure = error.what();
  }
  if (tell_ && failure != failure_) tell_(failure);
  failure_ = failure;
  const std::lock_guard lock(mutex_);
  if (!failure.empty()) calls_.merge(calls);  // what came since stays
}

}  // namespace redline
