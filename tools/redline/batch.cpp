// redline batch: a file of requests, answered as the server would, without one.
#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/weights.h"
#include "server/api.h"
#include "tools/redline/batch_file.h"
#include "tools/redline/command.h"
#include "tools/redline/session.h"
#include "tools/redline/terminal.h"

namespace redline {
namespace {

namespace asio = boost::asio;
using Json = nlohmann::ordered_json;

struct BatchFlags {
  std::string first, second;  // IN and OUT, after MODEL where --model does not name it
  std::optional<std::string> third;
  std::string model;
  std::vector<std::string> names;
  ModelFlags model_flags;
  CacheFlags cache;
  bool json = false;
};

/// A request without a connection: keeps the answer.
class OfflineExchange final : public server::Exchange {
 public:
  OfflineExchange(const server::HttpRequest& request, asio::any_io_executor executor)
      : request_(request), executor_(std::move(executor)) {}

  const server::HttpRequest& request() const override { return request_; }
  asio::any_io_executor executor() const override { return executor_; }
  asio::awaitable<void> respond(server::HttpResponse response) override {
    answer = std::move(response);
    co_return;
  }
  asio::awaitable<void> begin_events() override { return no_stream(); }
  asio::awaitable<void> send(std::string) override { return no_stream(); }
  asio::awaitable<void> end_events() override { return no_stream(); }
  void on_close(std::function<void()>) override {}

  server::HttpResponse answer;

 private:
  static asio::awaitable<void> no_stream() {
    throw server::ApiError(400, "stream is not for batches", "stream", "unsupported");
    co_return;
  }
  const server::HttpRequest& request_;
  asio::any_io_executor executor_;
};

struct BatchCounts {
  std::int64_t answered = 0, refused = 0, skipped = 0;  // refused: by status, or no request at all
};

class BatchRun {
 public:
  BatchRun(server::Api& api, BatchOutput& output, std::vector<BatchLine> lines, std::int64_t num_seats)
      : api_(api), output_(output), lines_(std::move(lines)), num_free_(num_seats), seat_freed_(context_) {}

  /// False where Ctrl-C ended it.
  bool run() {
    const InterruptGuard interrupt;
    ProgressBar bar("Batch");
    asio::co_spawn(context_, dispatch(), asio::detached);
    asio::co_spawn(
        context_,
        [&]() -> asio::awaitable<void> {
          asio::steady_timer timer(context_);
          while (!finished_ && !interrupt.requested()) {
            bar.show(num_done_, std::ssize(lines_));
            timer.expires_after(std::chrono::milliseconds(50));
            co_await timer.async_wait(asio::use_awaitable);
          }
          context_.stop();
        },
        asio::detached);
    context_.run();
    if (failure_) std::rethrow_exception(failure_);
    return finished_;
  }
  const BatchCounts& counts() const { return counts_; }

 private:
  asio::awaitable<void> dispatch() {
    for (const BatchLine& line : lines_) {
      if (output_.holds(line)) {
        ++counts_.skipped;
        ++num_done_;
        continue;
      }
      while (num_free_ == 0) co_await seat();
      --num_free_;
      ++num_under_way_;
      asio::co_spawn(context_, answer(line), [this](std::exception_ptr failure) {
        if (failure) failure_ = failure, context_.stop();
      });
    }
    while (num_under_way_ > 0) co_await seat();
    finished_ = true;
  }

  asio::awaitable<void> seat() {
    seat_freed_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await seat_freed_.async_wait(asio::as_tuple(asio::use_awaitable));
  }

  // Throws only where the result cannot be written.
  asio::awaitable<void> answer(const BatchLine& line) {
    if (line.problem.empty()) {
      OfflineExchange exchange(line.request, context_.get_executor());
      try {
        co_await api_.handle(exchange);
      } catch (const server::ApiError& error) {
        exchange.answer = error.response();
      } catch (const std::exception& error) {
        exchange.answer = server::ApiError(500, error.what(), "", "internal_error").response();
      }
      ++(exchange.answer.status == 200 ? counts_.answered : counts_.refused);
      output_.append(batch_result(line, exchange.answer));
    } else {
      ++counts_.refused;
      output_.append(batch_problem(line));
    }
    ++num_done_;
    ++num_free_;
    --num_under_way_;
    seat_freed_.cancel();
  }

  asio::io_context context_{1};
  server::Api& api_;
  BatchOutput& output_;
  const std::vector<BatchLine> lines_;
  std::int64_t num_free_, num_under_way_ = 0, num_done_ = 0;
  asio::steady_timer seat_freed_;
  BatchCounts counts_;
  std::exception_ptr failure_;
  bool finished_ = false;
};

std::int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int batch(const BatchFlags& flags) {
  if (flags.model.empty() != flags.third.has_value())
    throw UsageError("give MODEL IN OUT, or --model MODEL IN OUT");
  const std::string& reference = flags.third ? flags.first : flags.model;
  const std::string& in = flags.third ? flags.second : flags.first;
  const std::string& out = flags.third ? *flags.third : flags.second;
  std::vector<BatchLine> lines = read_batch(in);
  BatchOutput output(out);
  const auto model = load_model(reference, flags.model_flags);
  server::LiveMeter meter(metered_peaks(*model), model->weights->stored_bytes, steady_ns());
  Engine engine(model, flags.cache.options, [&meter](const StepRecord& step) { meter.add_step(step); });
  server::ServiceOptions options;
  options.model_names = flags.names.empty() ? std::vector{model_name(reference)} : flags.names;
  // Twice what runs at a time: a sequence that ends finds the next one waiting.
  const std::int64_t num_seats = 2 * std::int64_t{flags.cache.options.max_sequences};
  options.max_queue = num_seats + 1;
  server::Service service(engine, meter, options);
  server::Api api({.api_keys = {}, .version = REDLINE_VERSION, .model_name = options.model_names.front()});
  api.serve(service);
  const auto start = std::chrono::steady_clock::now();
  BatchCounts counts;
  bool finished = false;
  {
    BatchRun run(api, output, std::move(lines), num_seats);
    try {
      finished = run.run();
    } catch (...) {
      service.join();
      throw;
    }
    service.join();
    counts = run.counts();
  }
  RunSummary summary;
  summary.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const UtilizationMeter totals = meter.meter_of(meter.read(steady_ns(), false).totals);
  if (flags.json) {
    std::printf("%s\n", Json{{"answered", counts.answered},
                             {"refused", counts.refused},
                             {"skipped", counts.skipped},
                             {"finished", finished},
                             {"utilization", totals.to_json(summary)}}
                            .dump()
                            .c_str());
  } else {
    std::fprintf(stderr, "%lld answered, %lld refused, %lld done before%s\n%s",
                 static_cast<long long>(counts.answered), static_cast<long long>(counts.refused),
                 static_cast<long long>(counts.skipped), finished ? "" : "; the same command goes on",
                 totals.report(summary).c_str());
  }
  return finished ? kExitDone : kExitInterrupted;
}

}  // namespace

Action declare_batch(Flags& flags) {
  const auto values = std::make_shared<BatchFlags>();
  flags.argument("MODEL", "The model; with --model, the requests instead", values->first);
  flags.argument("IN",
                 "Requests, a JSON object a line: custom_id, method, url, body; with --model, the results",
                 values->second);
  flags.argument("OUT", "The results; where the file exists, the run that wrote it goes on", values->third);
  flags.text("--model", "MODEL", "The model, where it is not the first argument", values->model);
  flags.texts("--served-model-name", "NAME", "What requests call the model (default: its base name)",
              values->names);
  values->cache.add_to(flags);
  add_batch_flags(flags, values->cache.options);
  values->model_flags.add_to(flags);
  flags.flag("--json", "Print one JSON object at the end", values->json);
  return [values] { return batch(*values); };
}

}  // namespace redline
