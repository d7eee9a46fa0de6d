#include "tools/load/engine_target.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <limits>
#include <stdexcept>
#include <utility>

#include "engine/tokenizer/tokenizer.h"
#include "server/generation.h"

namespace redline::load {

asio::awaitable<TokenCounts> EngineTarget::send(const LoadRequest& request,
                                                const std::function<void()>& on_chunk) {
  if (!request.messages.is_null())
    throw std::runtime_error("the dataset holds messages: redline bench serve takes them");
  Request submission;
  submission.sampling = sampling_;
  submission.sampling.max_tokens = static_cast<std::int32_t>(
      std::min<std::int64_t>(request.output_tokens, std::numeric_limits<std::int32_t>::max()));
  submission.prompt = request.units;
  if (request.units.empty()) {
    if (!engine_.model().tokenizer) throw std::runtime_error("the model has no tokenizer, so takes no text");
    submission.prompt = engine_.model().tokenizer->encode(request.text);
  }
  std::vector<Request> requests;
  requests.push_back(std::move(submission));
  server::Generation generation(co_await asio::this_coro::executor, engine_, std::move(requests));
  for (;;) {
    const auto pieces = co_await generation.next();
    if (pieces.empty()) break;
    for (const auto& piece : pieces) {
      if (piece.event.finish_reason == FinishReason::kError) throw std::runtime_error(piece.event.error);
      if (piece.event.finish_reason == FinishReason::kAborted) throw std::runtime_error("aborted");
      on_chunk();
    }
  }
  const RequestUsage usage = generation.usage();
  co_return TokenCounts{usage.prompt_tokens, usage.cached_tokens, usage.generated_tokens,
                        /*tells_cached=*/true};
}

}  // namespace redline::load
