#include "server/reply.h"

#include <chrono>
#include <cstdio>
#include <random>
#include <utility>

#include "engine/tokenizer/tokenizer.h"

namespace redline::server {
namespace {

std::string random_id(const char* prefix) {
  static thread_local std::mt19937_64 random{std::random_device()()};
  char text[40];
  std::snprintf(text, sizeof text, "%s%016llx", prefix, static_cast<unsigned long long>(random()));
  return text;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json reason_json(FinishReason reason) { return reason == FinishReason::kNone ? Json() : Json(name(reason)); }

}  // namespace

std::string event_text(const std::string& text) { return "data: " + text + "\n\n"; }

Json usage_json(const RequestUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.generated_tokens},
          {"total_tokens", usage.prompt_tokens + usage.generated_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

Reply::Reply(const Call& call, const Tokenizer* tokenizer)
    : call_(call),
      tokenizer_(tokenizer),
      id_(random_id(call.chat ? "chatcmpl-" : "cmpl-")),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()) {
  for (std::size_t prompt = 0; prompt < call.requests.size(); ++prompt)
    for (std::int32_t i = 0; i < call.requests[prompt].n; ++i)
      answers_.emplace_back().text_offset = call.prompt_texts[prompt].size();
}

Json Reply::head(const char* object) const {
  return {{"id", id_}, {"object", object}, {"created", created_}, {"model", call_.model}};
}

std::size_t Reply::index_of(const Generation::Piece& piece) const {
  return piece.prompt * static_cast<std::size_t>(call_.requests.front().n) +
         static_cast<std::size_t>(piece.event.index);
}

Json Reply::token_json(const TokenLogprob& token) const {
  const std::string piece = tokenizer_ ? std::string(tokenizer_->piece(token.token)) : "";
  Json bytes = Json::array();
  for (const char c : piece) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", piece}, {"logprob", token.logprob}, {"bytes", std::move(bytes)}};
}

// chat: {content: [{token, logprob, bytes, top_logprobs}]}; else arrays by token.
void Reply::add_logprobs(const OutputEvent& event, Answer& answer, Json& logprobs) const {
  if (event.logprobs.empty()) return;
  if (logprobs.is_null())
    logprobs = call_.chat ? Json{{"content", Json::array()}}
                          : Json{{"tokens", Json::array()},
                                 {"token_logprobs", Json::array()},
                                 {"top_logprobs", Json::array()},
                                 {"text_offset", Json::array()}};
  for (const auto& candidates : event.logprobs) {
    Json token = token_json(candidates.front());
    if (call_.chat) {
      token["top_logprobs"] = Json::array();
      for (std::size_t i = 1; i < candidates.size(); ++i)
        token["top_logprobs"].push_back(token_json(candidates[i]));
      logprobs["content"].push_back(std::move(token));
      continue;
    }
    Json top = Json::object();
    for (std::size_t i = 1; i < candidates.size(); ++i) {
      const Json each = token_json(candidates[i]);
      top[each["token"].get<std::string>()] = each["logprob"];
    }
    logprobs["text_offset"].push_back(answer.text_offset);
    answer.text_offset += token["bytes"].size();
    logprobs["tokens"].push_back(token["token"]);
    logprobs["token_logprobs"].push_back(token["logprob"]);
    logprobs["top_logprobs"].push_back(std::move(top));
  }
}

std::string Reply::chunk(const Generation::Piece& piece, const RequestUsage& usage) {
  const std::size_t index = index_of(piece);
  Answer& answer = answers_[index];
  Json logprobs;
  add_logprobs(piece.event, answer, logprobs);
  Json choice{{"index", index}};
  const bool first = !std::exchange(answer.begun, true);
  std::string text = first ? call_.prompt_texts[piece.prompt] + piece.event.text : piece.event.text;
  if (call_.chat) {
    choice["delta"] = first ? Json{{"role", "assistant"}} : Json::object();
    choice["delta"]["content"] = std::move(text);
  } else {
    choice["text"] = std::move(text);
  }
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = reason_json(piece.event.finish_reason);
  Json chunk = head(call_.chat ? "chat.completion.chunk" : "text_completion");
  chunk["choices"] = Json::array({std::move(choice)});
  if (call_.continuous_usage) chunk["usage"] = usage_json(usage);
  return event_text(dump(chunk));
}

std::string Reply::usage_chunk(const RequestUsage& usage) const {
  Json chunk = head(call_.chat ? "chat.completion.chunk" : "text_completion");
  chunk["choices"] = Json::array();
  chunk["usage"] = usage_json(usage);
  return event_text(dump(chunk));
}

void Reply::add(const Generation::Piece& piece) {
  Answer& answer = answers_[index_of(piece)];
  answer.text += piece.event.text;
  add_logprobs(piece.event, answer, answer.logprobs);
  if (piece.event.finish_reason != FinishReason::kNone) answer.finish_reason = piece.event.finish_reason;
}

std::string Reply::body(const RequestUsage& usage) const {
  Json choices = Json::array();
  for (std::size_t i = 0; i < answers_.size(); ++i) {
    const Answer& answer = answers_[i];
    Json choice{{"index", i}};
    if (call_.chat)
      choice["message"] = {{"role", "assistant"}, {"content", answer.text}};
    else
      choice["text"] =
          call_.prompt_texts[i / static_cast<std::size_t>(call_.requests.front().n)] + answer.text;
    choice["logprobs"] = answer.logprobs;
    choice["finish_reason"] = reason_json(answer.finish_reason);
    choices.push_back(std::move(choice));
  }
  Json body = head(call_.chat ? "chat.completion" : "text_completion");
  body["choices"] = std::move(choices);
  body["usage"] = usage_json(usage);
  return dump(body);
}

}  // namespace redline::server
