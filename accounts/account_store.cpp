#include "accounts/account_store.h"

#include <sqlite3.h>

#include <filesystem>
#include <stdexcept>
#include <utility>

namespace redline {
namespace {

constexpr int kVersion = 1;  // of the tables
constexpr const char* kTables =
    "CREATE TABLE runs (run TEXT PRIMARY KEY, model TEXT NOT NULL, device TEXT NOT NULL, started_s REAL NOT "
    "NULL,"
    " seen_s REAL NOT NULL, idle_s REAL NOT NULL, gap_s REAL NOT NULL, busy_s REAL NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE calls (run TEXT NOT NULL, number INTEGER NOT NULL, tenant TEXT NOT NULL, model TEXT NOT "
    "NULL,"
    " started_s REAL NOT NULL, ended INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,"
    " cached_tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL,"
    " prefill_flops INTEGER NOT NULL, decode_flops INTEGER NOT NULL,"
    " prefill_bytes INTEGER NOT NULL, decode_bytes INTEGER NOT NULL,"
    " prefill_device_s REAL NOT NULL, decode_device_s REAL NOT NULL, joules REAL,"
    " PRIMARY KEY (run, number)) WITHOUT ROWID;"
    "CREATE INDEX calls_by_time ON calls (started_s);"
    "PRAGMA user_version = 1;";

void close(sqlite3* database) { sqlite3_close(database); }

// One SQL statement with its parameters, which are numbered from 1, and its row's columns, from 0.
class Statement {
 public:
  Statement(sqlite3* database, const std::string& path, const std::string& sql)
      : database_(database), path_(path) {
    check(sqlite3_prepare_v2(database, sql.c_str(), -1, &statement_, nullptr));
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& add(std::int64_t value) { return check(sqlite3_bind_int64(statement_, ++bound_, value)); }
  Statement& add(double value) { return check(sqlite3_bind_double(statement_, ++bound_, value)); }
  Statement& add(const std::string& text) {
    return check(sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                                   SQLITE_TRANSIENT));
  }
  Statement& add(const std::optional<double>& value) {
    return value ? add(*value) : check(sqlite3_bind_null(statement_, ++bound_));
  }
  /// Whether there is a row.
  bool step() {
    const int result = sqlite3_step(statement_);
    if (result != SQLITE_ROW && result != SQLITE_DONE) check(result);
    return result == SQLITE_ROW;
  }
  void run_again() {
    step();
    check(sqlite3_reset(statement_));
    bound_ = 0;
  }
  std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  double number(int column) const { return sqlite3_column_double(statement_, column); }
  bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  std::string text(int column) const {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return text ? text : "";
  }

 private:
  Statement& check(int result) {
    if (result != SQLITE_OK) throw std::runtime_error(path_ + ": " + sqlite3_errmsg(database_));
    return *this;
  }
  sqlite3* database_;
  const std::string& path_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

}  // namespace

AccountStore::AccountStore(std::string path, Mode mode) : path_(std::move(path)), database_(nullptr, close) {
  const bool writes = mode == Mode::kWrite;
  if (!writes && !std::filesystem::exists(path_))
    throw std::runtime_error(path_ + ": there is no such ledger");
  if (const auto folder = std::filesystem::path(path_).parent_path(); writes && !folder.empty())
    std::filesystem::create_directories(folder);
  sqlite3* database = nullptr;
  const int flags = writes ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READWRITE;
  const int result = sqlite3_open_v2(path_.c_str(), &database, flags, nullptr);
  database_.reset(database);
  if (result != SQLITE_OK) throw std::runtime_error(path_ + ": " + sqlite3_errstr(result));
  sqlite3_busy_timeout(database, 5000);
  if (writes) prepare_file();
  Statement version(database_.get(), path_, "PRAGMA user_version");
  version.step();
  if (version.integer(0) != kVersion)
    throw std::runtime_error(path_ + ": expected a ledger of version " + std::to_string(kVersion) +
                             ", found " + std::to_string(version.integer(0)));
}

AccountStore::~AccountStore() = default;

void AccountStore::execute(const char* sql) const {
  char* message = nullptr;
  if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, &message) == SQLITE_OK) return;
  const std::string text = message ? message : "unknown error";
  sqlite3_free(message);
  throw std::runtime_error(path_ + ": " + text);
}

void AccountStore::prepare_file() {
  execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE");
  Statement tables(database_.get(), path_, "SELECT count(*) FROM sqlite_master");
  tables.step();
  const bool is_new = tables.integer(0) == 0;
  try {
    if (is_new) execute(kTables);
    execute("COMMIT");
  } catch (...) {
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
}

void AccountStore::put(const RunAccount& run, std::span<const CallAccount> calls) {
  execute("BEGIN IMMEDIATE");
  try {
    Statement(database_.get(), path_, "INSERT OR REPLACE INTO runs VALUES (?,?,?,?,?,?,?,?)")
        .add(run.run)
        .add(run.model)
        .add(run.device)
        .add(run.started_s)
        .add(run.seen_s)
        .add(run.idle_s)
        .add(run.gap_s)
        .add(run.busy_s)
        .step();
    Statement insert(database_.get(), path_,
                     "INSERT OR REPLACE INTO calls VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
    for (const CallAccount& call : calls) {
      insert.add(call.run).add(call.number).add(call.tenant).add(call.model).add(call.started_s);
      insert.add(std::int64_t{call.ended}).add(call.prompt_tokens).add(call.cached_tokens);
      insert.add(call.generated_tokens).add(call.flops[0]).add(call.flops[1]).add(call.bytes[0]);
      insert.add(call.bytes[1]).add(call.device_s[0]).add(call.device_s[1]).add(call.joules);
      insert.run_again();
    }
    execute("COMMIT");
  } catch (...) {
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
}

std::vector<AccountSum> AccountStore::sums(GroupBy group, double since_s) const {
  static constexpr const char* kColumns[] = {"tenant", "model", "run",
                                             "strftime('%Y-%m-%d', started_s, 'unixepoch')"};
  // total() adds as floating point: sums beyond 2^63 FLOPs are no error.
  Statement rows(
      database_.get(), path_,
      std::string("SELECT ") + kColumns[static_cast<int>(group)] +
          " AS name, count(*), sum(prompt_tokens), sum(cached_tokens), sum(generated_tokens),"
          " total(prefill_flops), total(decode_flops), total(prefill_bytes), total(decode_bytes),"
          " total(prefill_device_s), total(decode_device_s), sum(joules), count(joules)"
          " FROM calls WHERE started_s >= ? GROUP BY name ORDER BY " +
          (group == GroupBy::kDay ? "name" : "total(prefill_device_s) + total(decode_device_s) DESC, name"));
  rows.add(since_s);
  std::vector<AccountSum> sums;
  while (rows.step()) {
    AccountSum& sum = sums.emplace_back();
    sum.group = rows.text(0);
    sum.num_calls = rows.integer(1);
    sum.prompt_tokens = rows.integer(2);
    sum.cached_tokens = rows.integer(3);
    sum.generated_tokens = rows.integer(4);
    for (int phase = 0; phase < kNumPhases; ++phase) {
      const auto p = static_cast<std::size_t>(phase);
      sum.flops[p] = rows.number(5 + phase);
      sum.bytes[p] = rows.number(7 + phase);
      sum.device_s[p] = rows.number(9 + phase);
    }
    if (rows.integer(12) == sum.num_calls) sum.joules = rows.number(11);
  }
  return sums;
}

std::vector<RunAccount> AccountStore::runs(double since_s) const {
  Statement rows(database_.get(), path_,
                 "SELECT run, model, device, started_s, seen_s, idle_s, gap_s, busy_s FROM runs"
                 " WHERE seen_s >= ? ORDER BY started_s, run");
  rows.add(since_s);
  std::vector<RunAccount> runs;
  while (rows.step())
    runs.push_back({rows.text(0), rows.text(1), rows.text(2), rows.number(3), rows.number(4), rows.number(5),
                    rows.number(6), rows.number(7)});
  return runs;
}

}  // namespace redline
