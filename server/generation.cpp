#include "server/generation.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <utility>

namespace redline::server {

namespace {

std::int64_t bytes_of(const OutputEvent& event) {
  std::size_t bytes = sizeof event + event.text.size() + event.token_ids.size() * sizeof(event.token_ids[0]);
  for (const auto& candidates : event.logprobs)
    bytes += sizeof candidates + candidates.size() * sizeof(candidates[0]);
  return static_cast<std::int64_t>(bytes);
}

}  // namespace

// Wakes the server's thread from the engine's: a timer that never ends, cancelled.
struct Generation::Signal {
  explicit Signal(asio::any_io_executor executor) : timer(executor) {}
  asio::steady_timer timer;          // touched on the server's thread only, as is all but `posted`
  Generation* generation = nullptr;  // null: it is gone
  bool raised = false;
  bool given_up = false;
  std::atomic<bool> posted{false};  // a wake is on its way
};

Generation::Generation(asio::any_io_executor executor, Engine& engine, std::vector<Request> requests)
    : signal_(std::make_shared<Signal>(executor)) {
  signal_->generation = this;
  for (Request& request : requests) {
    max_held_bytes_ += request.n * kMaxHeldBytesPerAnswer;
    streams_.push_back(engine.submit(std::move(request), [signal = signal_] {
      if (signal->posted.exchange(true)) return;
      asio::post(signal->timer.get_executor(), [signal] {
        signal->posted = false;
        signal->raised = true;
        signal->timer.cancel();
        if (signal->generation) signal->generation->hold();
      });
    }));
  }
}

Generation::~Generation() { signal_->generation = nullptr; }

void Generation::take() {
  for (std::size_t i = 0; i < streams_.size(); ++i)
    while (auto event = streams_[i]->next_until(std::chrono::steady_clock::time_point::min())) {
      held_bytes_ += bytes_of(*event);
      pieces_.push_back({i, std::move(*event)});
    }
}

void Generation::hold() {
  if (!waits_for_reader_) return;
  take();
  if (held_bytes_ <= max_held_bytes_ || std::exchange(overrun_, true)) return;
  abort();
}

asio::awaitable<std::vector<Generation::Piece>> Generation::next() {
  for (;;) {
    if (signal_->given_up) co_return std::vector<Piece>();
    signal_->raised = false;
    take();
    held_bytes_ = 0;
    if (!pieces_.empty()) co_return std::exchange(pieces_, {});
    const bool finished =
        std::ranges::all_of(streams_, [](const auto& stream) { return stream->finished(); });
    if (finished) co_return std::vector<Piece>();
    if (signal_->raised) continue;
    signal_->timer.expires_at(std::chrono::steady_clock::time_point::max());
    co_await signal_->timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

void Generation::abort() {
  for (const auto& stream : streams_) stream->abort();
}

void Generation::give_up() {
  signal_->given_up = true;
  signal_->timer.cancel();
}

bool Generation::given_up() const { return signal_->given_up; }

RequestUsage Generation::usage() const {
  RequestUsage sum;
  sum.joules = 0;
  for (const auto& stream : streams_) {
    const RequestUsage each = stream->usage();
    sum.prompt_tokens += each.prompt_tokens;
    sum.cached_tokens += each.cached_tokens;
    sum.generated_tokens += each.generated_tokens;
    sum.times += each.times;
    sum.joules = sum.joules && each.joules ? std::optional(*sum.joules + *each.joules) : std::nullopt;
    sum.prefill += each.prefill;
    sum.decode += each.decode;
    for (std::size_t phase = 0; phase < sum.device_ns.size(); ++phase)
      sum.device_ns[phase] += each.device_ns[phase];
  }
  return sum;
}

}  // namespace redline::server
