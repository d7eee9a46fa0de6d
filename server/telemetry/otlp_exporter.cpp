#include "server/telemetry/otlp_exporter.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <stdexcept>
#include <utility>

#include "server/telemetry/otlp_json.h"

namespace redline::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;
using HttpPost = http::request<http::string_body>;
using HttpReply = http::response<http::string_body>;

constexpr Milliseconds kFirstPause(1000), kLongestPause(30'000);
constexpr std::size_t kMaxReplyBytes = 1 << 20;

/// What became of one attempt.
struct Outcome {
  bool delivered = false, worth_another = true;
  std::int64_t num_rejected = 0;
  std::optional<Milliseconds> wait{};  // that the collector asks for
  std::string failure{};
};

// {"partialSuccess": {"rejectedSpans": N}}, N as text or number.
std::int64_t num_rejected_of(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("partialSuccess") || !json["partialSuccess"].is_object()) return 0;
  const auto found = json["partialSuccess"].find("rejectedSpans");
  if (found == json["partialSuccess"].end()) return 0;
  if (found->is_number_integer()) return found->get<std::int64_t>();
  std::int64_t count = 0;
  if (found->is_string()) {
    const auto& text = found->get_ref<const std::string&>();
    std::from_chars(text.data(), text.data() + text.size(), count);
  }
  return count;
}

Outcome outcome_of(const HttpReply& reply) {
  Outcome outcome;
  const unsigned status = reply.result_int();
  outcome.delivered = status >= 200 && status < 300;
  if (outcome.delivered) {
    outcome.num_rejected = num_rejected_of(reply.body());
    return outcome;
  }
  outcome.failure = "the collector answers " + std::to_string(status);
  outcome.worth_another = status == 429 || status == 502 || status == 503 || status == 504;
  const beast::string_view after = reply[http::field::retry_after];
  std::int64_t seconds = 0;
  if (std::from_chars(after.data(), after.data() + after.size(), seconds).ec == std::errc() && seconds >= 0)
    outcome.wait = std::chrono::seconds(std::min<std::int64_t>(seconds, 3600));
  return outcome;
}

asio::ssl::context tls_of(const OtlpOptions& options) {
  asio::ssl::context tls(asio::ssl::context::tls_client);
  if (!options.tls) return tls;
  boost::system::error_code error;
  if (options.certificate_file.empty())
    tls.set_default_verify_paths(error);
  else
    tls.load_verify_file(options.certificate_file, error);
  if (error)
    throw std::runtime_error(
        (options.certificate_file.empty() ? "the system's certificates" : options.certificate_file) +
        ": cannot be read: " + error.message());
  tls.set_verify_mode(asio::ssl::verify_peer);
  return tls;
}

HttpPost post_of(const OtlpOptions& options) {
  HttpPost post(http::verb::post, options.target, 11);
  for (const auto& [key, value] : options.headers) post.set(key, value);
  const std::string host =
      options.host.find(':') == std::string::npos ? options.host : "[" + options.host + "]";
  const bool is_usual = options.port == (options.tls ? "443" : "80");
  post.set(http::field::host, is_usual ? host : host + ":" + options.port);
  post.set(http::field::user_agent, "redline/" + options.version);
  post.set(http::field::content_type, "application/json");
  post.set(http::field::connection, "close");
  return post;
}

}  // namespace

// Lives as long as its thread, which may outlive the exporter: the system's resolver cannot be broken off.
struct OtlpExporter::Worker {
  Worker(OtlpOptions with, Tell tell_with)
      : options(std::move(with)), tell(std::move(tell_with)), tls(tls_of(options)) {}

  asio::awaitable<void> work();
  asio::awaitable<void> wait_for_spans();
  asio::awaitable<void> sleep(Milliseconds time);
  asio::awaitable<void> deliver(std::vector<Span> batch);
  asio::awaitable<Outcome> attempt(const HttpPost& post);
  template <class Stream>
  asio::awaitable<Outcome> exchange(Stream& stream, const HttpPost& post);
  std::vector<Span> take();
  void report(const std::string& failure);

  const OtlpOptions options;
  const Tell tell;
  std::string last_failure;
  std::minstd_rand random{std::random_device()()};

  mutable std::mutex mutex;  // guards what follows
  std::condition_variable ended;
  bool has_ended = false, is_stopping = false;
  std::deque<Span> queue;
  Totals totals;

  asio::ssl::context tls;
  asio::io_context context{1};  // last: what it still holds refers to the others
  asio::steady_timer wake{context};
};

asio::awaitable<void> OtlpExporter::Worker::work() {
  for (bool stop = false; !stop;) {
    co_await wait_for_spans();
    {
      const std::lock_guard lock(mutex);
      stop = is_stopping;
    }
    for (std::vector<Span> batch = take(); !batch.empty(); batch = take()) {
      const std::int64_t count = std::ssize(batch);
      try {
        co_await deliver(std::move(batch));
      } catch (const std::bad_alloc& error) {
        report(error.what());
        const std::lock_guard lock(mutex);
        totals.dropped += count;
      }
    }
  }
}

// The interval's end, a whole batch, or the exporter's end.
asio::awaitable<void> OtlpExporter::Worker::wait_for_spans() {
  wake.expires_after(options.interval);
  {
    const std::lock_guard lock(mutex);
    if (is_stopping || queue.size() >= options.max_batch) co_return;
  }
  co_await wake.async_wait(asio::as_tuple(asio::use_awaitable));
}

// Ends early with the exporter, or when a whole batch waits: no shorter pause than what a collector asked for
// comes of that, since the next attempt is this batch's own.
asio::awaitable<void> OtlpExporter::Worker::sleep(Milliseconds time) {
  const auto until = Clock::now() + time;
  while (Clock::now() < until) {
    {
      const std::lock_guard lock(mutex);
      if (is_stopping) co_return;
    }
    wake.expires_at(until);
    co_await wake.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

std::vector<Span> OtlpExporter::Worker::take() {
  const std::lock_guard lock(mutex);
  const auto count = static_cast<std::ptrdiff_t>(std::min(queue.size(), options.max_batch));
  std::vector<Span> batch(std::make_move_iterator(queue.begin()),
                          std::make_move_iterator(queue.begin() + count));
  queue.erase(queue.begin(), queue.begin() + count);
  return batch;
}

asio::awaitable<void> OtlpExporter::Worker::deliver(std::vector<Span> batch) {
  const auto count = static_cast<std::int64_t>(batch.size());
  HttpPost post = post_of(options);
  post.body() = otlp_json(options.resource, options.version, batch);
  post.prepare_payload();
  batch.clear();
  const auto give_up = Clock::now() + kGiveUpAfter;
  Milliseconds pause = kFirstPause;
  for (;;) {
    const Outcome outcome = co_await attempt(post);
    report(outcome.failure);
    if (outcome.delivered) {
      const std::int64_t rejected = std::clamp<std::int64_t>(outcome.num_rejected, 0, count);
      const std::lock_guard lock(mutex);
      totals.rejected += rejected;
      totals.exported += count - rejected;
      co_return;
    }
    // Half to all of the pause, so that many servers do not come back at the same moment.
    const Milliseconds varied(std::uniform_int_distribution(pause.count() / 2, pause.count())(random));
    const Milliseconds wait = outcome.wait.value_or(varied);
    pause = std::min(2 * pause, kLongestPause);
    bool give = !outcome.worth_another || Clock::now() + wait > give_up;
    {
      const std::lock_guard lock(mutex);
      give |= is_stopping;
      if (give) totals.dropped += count;
    }
    if (give) co_return;
    co_await sleep(wait);
  }
}

asio::awaitable<Outcome> OtlpExporter::Worker::attempt(const HttpPost& post) {
  Outcome outcome;
  try {
    const auto deadline = Clock::now() + options.timeout;
    tcp::resolver resolver(context);
    const tcp::resolver::results_type endpoints =
        co_await resolver.async_resolve(options.host, options.port, asio::use_awaitable);
    if (!options.tls) {
      beast::tcp_stream stream(context);
      stream.expires_at(deadline);
      co_await stream.async_connect(endpoints, asio::use_awaitable);
      outcome = co_await exchange(stream, post);
    } else {
      beast::ssl_stream<beast::tcp_stream> stream(context, tls);
      SSL_set_tlsext_host_name(stream.native_handle(), options.host.c_str());
      stream.set_verify_callback(asio::ssl::host_name_verification(options.host));
      stream.next_layer().expires_at(deadline);
      co_await stream.next_layer().async_connect(endpoints, asio::use_awaitable);
      co_await stream.async_handshake(asio::ssl::stream_base::client, asio::use_awaitable);
      outcome = co_await exchange(stream, post);
    }
  } catch (const boost::system::system_error& error) {
    outcome.failure = error.code().message();
  }
  co_return outcome;
}

template <class Stream>
asio::awaitable<Outcome> OtlpExporter::Worker::exchange(Stream& stream, const HttpPost& post) {
  co_await http::async_write(stream, post, asio::use_awaitable);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxReplyBytes);
  co_await http::async_read(stream, buffer, parser, asio::use_awaitable);
  co_return outcome_of(parser.get());
}

void OtlpExporter::Worker::report(const std::string& failure) {
  if (tell && failure != last_failure) tell(failure);
  last_failure = failure;
}

OtlpExporter::OtlpExporter(OtlpOptions options, Tell tell)
    : worker_(std::make_shared<Worker>(std::move(options), std::move(tell))) {
  asio::co_spawn(worker_->context, worker_->work(), asio::detached);
  thread_ = std::thread([worker = worker_] {
    worker->context.run();
    const std::lock_guard lock(worker->mutex);
    worker->has_ended = true;
    worker->ended.notify_all();
  });
}

OtlpExporter::~OtlpExporter() {
  std::unique_lock lock(worker_->mutex);
  worker_->is_stopping = true;
  asio::post(worker_->context, [worker = worker_.get()] { worker->wake.cancel(); });
  const bool ended = worker_->ended.wait_for(lock, kFlushTime, [this] { return worker_->has_ended; });
  lock.unlock();
  if (ended) {
    thread_.join();
  } else {
    worker_->context.stop();
    thread_.detach();
  }
}

const OtlpOptions& OtlpExporter::options() const { return worker_->options; }

void OtlpExporter::add(std::vector<Span> spans) {
  bool is_full = false;
  {
    const std::lock_guard lock(worker_->mutex);
    if (worker_->queue.size() + spans.size() > worker_->options.max_queued) {
      worker_->totals.dropped += std::ssize(spans);
      return;
    }
    const std::size_t before = worker_->queue.size();
    std::ranges::move(spans, std::back_inserter(worker_->queue));
    is_full = before < worker_->options.max_batch && worker_->queue.size() >= worker_->options.max_batch;
  }
  if (is_full) asio::post(worker_->context, [worker = worker_.get()] { worker->wake.cancel(); });
}

OtlpExporter::Totals OtlpExporter::totals() const {
  const std::lock_guard lock(worker_->mutex);
  return worker_->totals;
}

}  // namespace redline::server
