// The JSON of answers, whole and streamed, in OpenAI's vocabulary.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "server/call.h"
#include "server/generation.h"

namespace redline::server {

/// One call's answers as they grow.
class Reply {
 public:
  /// Keeps references to both. `tokenizer` may be null: then there is no text.
  /// `price_per_hour`: of the device, for what a call cost; nothing: not known.
  Reply(const Call& call, const Tokenizer* tokenizer, std::optional<double> price_per_hour = std::nullopt);

  /// The streamed chunks for one piece, `data: {...}\n\n` each; none where there is nothing to tell yet. A
  /// chat answer's first carries its role. With the usage so far where the call wants it in every chunk.
  std::string chunk(const Generation::Piece& piece, const Generation& generation);
  /// The chunk without choices that ends a stream where the call wants usage.
  std::string usage_chunk(const RequestUsage& usage) const;
  /// Collects a piece for body().
  void add(const Generation::Piece& piece);
  const std::string& id() const { return id_; }
  /// Of answers that have ended, as the client is told them.
  std::vector<std::string> finish_reasons() const;
  /// The whole answer.
  std::string body(const RequestUsage& usage) const;

 private:
  struct Answer {
    std::string text;
    std::optional<ChatOutput> output;  // of a chat
    std::string reasoning;
    std::vector<Json> tool_calls;
    Json logprobs = Json();
    FinishReason finish_reason = FinishReason::kNone;
    bool begun = false;
    std::size_t text_offset = 0;  // characters
  };
  static ChatDelta read(Answer& answer, const OutputEvent& event);
  Json head(const char* object) const;
  std::size_t index_of(const Generation::Piece& piece) const;
  /// Keeps what the piece tells of its prompt, for its answers.
  void keep_prompt(const Generation::Piece& piece);
  void add_logprobs(const Generation::Piece& piece, Answer& answer, Json& logprobs) const;
  void add_echo(std::size_t prompt, Answer& answer, Json& logprobs) const;
  void add_token(std::span<const TokenLogprob> candidates, Answer& answer, Json& logprobs) const;
  Json prompt_logprobs_json(std::size_t prompt) const;
  std::string chunk_of(const std::string& choice, const std::string& usage) const;
  Json reason_json(const Answer& answer, FinishReason reason) const;
  Json token_json(const TokenLogprob& token) const;

  Json whole_usage_json(const RequestUsage& usage) const;

  const Call& call_;
  const std::optional<double> price_per_hour_;
  const Tokenizer* tokenizer_;
  std::string id_;
  std::int64_t created_;
  std::string chunk_head_;       // of every streamed chunk, up to its choices
  std::vector<Answer> answers_;  // prompt by prompt
  std::vector<std::vector<std::vector<TokenLogprob>>> prompt_logprobs_;  // by prompt, per token but its first
};

/// {prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details {cached_tokens}}
Json usage_json(const RequestUsage& usage);

/// `data: TEXT\n\n`
std::string event_text(const std::string& text);

}  // namespace redline::server
