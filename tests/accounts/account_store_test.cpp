#include "accounts/account_store.h"
#include <memory>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "accounts/account_writer.h"

namespace redline {
namespace {

class Ledger : public testing::Test {
 protected:
  Ledger() : folder_(std::filesystem::temp_directory_path() / ("redline-ledger-" + new_run_id())) {}
  ~Ledger() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return (folder_ / "some folder" / "ledger.db").string(); }
  AccountStore read() const { return AccountStore(path(), AccountStore::Mode::kRead); }

  static RunAccount run(const std::string& name) {
    return {.run = name,
            .model = "m",
            .device = "d",
            .started_s = 1000,
            .seen_s = 2000,
            .idle_s = 5,
            .gap_s = 1,
            .busy_s = 3};
  }
  static CallAccount call(const std::string& run, std::int64_t number, const std::string& tenant) {
    CallAccount call{.run = run, .number = number, .tenant = tenant, .model = "m", .started_s = 1000};
    call.prompt_tokens = 10;
    call.generated_tokens = number;
    call.flops = {100, 7};
    call.device_s = {0.5, 0.25};
    return call;
  }

  std::filesystem::path folder_;
};

TEST_F(Ledger, CountsACallOnceHoweverOftenItIsPut) {
  AccountStore store(path(), AccountStore::Mode::kWrite);
  CallAccount first = call("r", 1, "ann");
  for (const std::int64_t tokens : {0, 4, 9}) {
    first.generated_tokens = tokens;
    store.put(run("r"), {&first, 1});
  }
  const CallAccount others[] = {call("r", 2, "bob"), call("r", 3, "ann"), call("s", 1, "ann")};
  store.put(run("r"), others);

  const auto sums = read().sums(GroupBy::kTenant, 0);
  ASSERT_EQ(sums.size(), 2u);
  EXPECT_EQ(sums[0].group, "ann") << "the longest device time first";
  EXPECT_EQ(sums[0].num_calls, 3);
  EXPECT_EQ(sums[0].generated_tokens, 9 + 3 + 1);
  EXPECT_EQ(sums[0].flops[0], 300);
  EXPECT_EQ(sums[0].device_seconds(), 2.25);
  EXPECT_FALSE(sums[0].joules);
  EXPECT_EQ(sums[1].num_calls, 1);
  EXPECT_EQ(read().sums(GroupBy::kRun, 0).size(), 2u);
  EXPECT_EQ(read().sums(GroupBy::kDay, 0).at(0).group, "1970-01-01");
  EXPECT_TRUE(read().sums(GroupBy::kTenant, 1001).empty());
  ASSERT_EQ(read().runs(0).size(), 1u);
  EXPECT_EQ(read().runs(0)[0].idle_s, 5);
  EXPECT_TRUE(read().runs(2001).empty());
}

TEST_F(Ledger, SumsBeyondSixtyThreeBitsAreNoError) {
  AccountStore store(path(), AccountStore::Mode::kWrite);
  CallAccount calls[] = {call("r", 1, "a"), call("r", 2, "a")};
  for (CallAccount& each : calls) each.flops[0] = INT64_MAX;
  store.put(run("r"), calls);
  EXPECT_NEAR(store.sums(GroupBy::kTenant, 0).at(0).flops[0], 2.0 * static_cast<double>(INT64_MAX), 1e6);
}

TEST_F(Ledger, RefusesWhatIsNone) {
  EXPECT_THROW(read(), std::runtime_error);
  std::filesystem::create_directories(folder_ / "some folder");
  std::ofstream(path())
      << "no database, but a text that is long enough to be looked at as one, over and over";
  for (const auto mode : {AccountStore::Mode::kRead, AccountStore::Mode::kWrite}) try {
      AccountStore store(path(), mode);
      ADD_FAILURE() << "opened";
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find(path()), std::string::npos) << error.what();
    }
}

TEST_F(Ledger, SurvivesKillingItsWriterAndCountsNothingTwice) {
  int told[2];
  ASSERT_EQ(pipe(told), 0);
  const pid_t child = fork();
  if (child == 0) {  // puts all calls so far again and again, telling how many are in the file
    AccountStore store(path(), AccountStore::Mode::kWrite);
    std::vector<CallAccount> calls;
    for (std::int64_t n = 1;; ++n) {
      calls.push_back(call("r", n, "a"));
      store.put(run("r"), calls);
      if (write(told[1], &n, sizeof n) != sizeof n) _exit(1);
    }
  }
  std::int64_t in_file = 0;
  while (in_file < 200)
    ASSERT_EQ(::read(told[0], &in_file, sizeof in_file), static_cast<ssize_t>(sizeof in_file));
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  close(told[1]);
  while (::read(told[0], &in_file, sizeof in_file) > 0) {
  }
  close(told[0]);

  const AccountSum sum = read().sums(GroupBy::kTenant, 0).at(0);
  EXPECT_GE(sum.num_calls, in_file);
  EXPECT_LE(sum.num_calls, in_file + 1) << "the one that was put and not yet told";
  EXPECT_EQ(sum.generated_tokens, sum.num_calls * (sum.num_calls + 1) / 2);
  // A new process goes on with the same file.
  AccountStore again(path(), AccountStore::Mode::kWrite);
  const CallAccount next = call("s", 1, "a");
  again.put(run("s"), {&next, 1});
  EXPECT_EQ(again.sums(GroupBy::kTenant, 0).at(0).num_calls, sum.num_calls + 1);
}

TEST_F(Ledger, WriterKeepsTheEndOfACallAndItsRunsTimes) {
  {
    auto busy_s = std::make_unique<double>(42);
    AccountWriter writer(
        path(), run("r"), [&busy_s](RunAccount& account) { account.busy_s = *busy_s; },
        [](const std::string& failure) { ADD_FAILURE() << failure; });
    const auto record = writer.begin("ann"), open = writer.begin("bob");
    RequestUsage usage;
    usage.prompt_tokens = 5;
    usage.generated_tokens = 2;
    record->update(usage);
    open->update(usage);
    usage.generated_tokens = 3;
    usage.device_ns = {2e9, 1e9};
    record->end(usage);
    usage.generated_tokens = 1;
    record->update(usage);  // late: ignored
    writer.end_times();
    busy_s.reset();
  }
  const auto sums = read().sums(GroupBy::kTenant, 0);
  ASSERT_EQ(sums.size(), 2u);
  EXPECT_EQ(sums[0].group, "ann");
  EXPECT_EQ(sums[0].generated_tokens, 3);
  EXPECT_EQ(sums[0].device_seconds(), 3);
  EXPECT_EQ(sums[1].generated_tokens, 2);
  EXPECT_EQ(read().runs(0).at(0).busy_s, 42);
}

}  // namespace
}  // namespace redline
