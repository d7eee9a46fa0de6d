#include "server/reply.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <utility>

#include "accounts/account.h"
#include "engine/meter/economics.h"
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

// Of UTF-8, or of a part of it.
std::size_t num_characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// Nine letters and digits: what Mistral's templates take; the others take any.
std::string random_call_id() {
  static thread_local std::mt19937_64 random{std::random_device()()};
  constexpr std::string_view kDigits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string id;
  while (id.size() < 9) id += kDigits[random() % kDigits.size()];
  return id;
}

Json call_json(const std::string& name, const std::string& arguments) {
  return {{"id", random_call_id()},
          {"type", "function"},
          {"function", {{"name", name}, {"arguments", arguments}}}};
}

Json role_choice(std::size_t index) {
  return {{"index", index},
          {"delta", {{"role", "assistant"}, {"content", ""}}},
          {"logprobs", nullptr},
          {"finish_reason", nullptr}};
}

Json delta_json(const ChatDelta& delta) {
  Json json = Json::object();
  if (!delta.reasoning.empty()) json["reasoning_content"] = delta.reasoning;
  const bool other = !delta.reasoning.empty() || !delta.calls.empty();
  if (!delta.content.empty() || !other) json["content"] = delta.content;
  for (const ChatDelta::Call& call : delta.calls) {
    Json each{{"index", call.index}};
    if (call.name.empty())
      each["function"] = {{"arguments", call.arguments}};
    else
      each.update(call_json(call.name, call.arguments));
    json["tool_calls"].push_back(std::move(each));
  }
  return json;
}

}  // namespace

std::string event_text(const std::string& text) { return "data: " + text + "\n\n"; }

Json usage_json(const RequestUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.generated_tokens},
          {"total_tokens", usage.prompt_tokens + usage.generated_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

Reply::Reply(const Call& call, const Tokenizer* tokenizer, std::optional<double> price_per_hour)
    : call_(call),
      price_per_hour_(price_per_hour),
      tokenizer_(tokenizer),
      id_(random_id(call.chat ? "chatcmpl-" : "cmpl-")),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()) {
  chunk_head_ = dump(head(call.chat ? "chat.completion.chunk" : "text_completion"));
  chunk_head_.replace(chunk_head_.size() - 1, 1, ",\"choices\":[");
  prompt_logprobs_.resize(call.requests.size());
  for (std::size_t prompt = 0; prompt < call.requests.size(); ++prompt)
    for (std::int32_t i = 0; i < call.requests[prompt].n; ++i) {
      Answer& answer = answers_.emplace_back();
      answer.text_offset = num_characters(call.prompt_texts[prompt]);
      if (call.chat) answer.output.emplace(call.output);
    }
}

Json Reply::reason_json(const Answer& answer, FinishReason reason) const {
  if (reason == FinishReason::kNone) return nullptr;
  const bool called = answer.output && answer.output->num_calls() > 0;
  return called && reason == FinishReason::kStop ? "tool_calls" : name(reason);
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

void Reply::keep_prompt(const Generation::Piece& piece) {
  if (!piece.event.prompt_logprobs.empty()) prompt_logprobs_[piece.prompt] = piece.event.prompt_logprobs;
}

// chat: {content: [{token, logprob, bytes, top_logprobs}]}; else arrays by token.
void Reply::add_logprobs(const Generation::Piece& piece, Answer& answer, Json& logprobs) const {
  const bool echoes = call_.echoes_logprobs && !answer.begun;
  if (piece.event.logprobs.empty() && !echoes) return;
  if (logprobs.is_null())
    logprobs = call_.chat ? Json{{"content", Json::array()}}
                          : Json{{"tokens", Json::array()},
                                 {"token_logprobs", Json::array()},
                                 {"top_logprobs", Json::array()},
                                 {"text_offset", Json::array()}};
  if (echoes) add_echo(piece.prompt, answer, logprobs);
  for (const auto& candidates : piece.event.logprobs) add_token(candidates, answer, logprobs);
}

void Reply::add_token(std::span<const TokenLogprob> candidates, Answer& answer, Json& logprobs) const {
  Json token = token_json(candidates.front());
  if (call_.chat) {
    token["top_logprobs"] = Json::array();
    for (const TokenLogprob& each : candidates.subspan(1)) token["top_logprobs"].push_back(token_json(each));
    logprobs["content"].push_back(std::move(token));
    return;
  }
  Json top = Json::object();
  for (const TokenLogprob& each : candidates.subspan(1)) {
    const Json candidate = token_json(each);
    top[candidate["token"].get<std::string>()] = candidate["logprob"];
  }
  logprobs["text_offset"].push_back(answer.text_offset);
  answer.text_offset += num_characters(token["token"].get_ref<const std::string&>());
  logprobs["tokens"].push_back(token["token"]);
  logprobs["token_logprobs"].push_back(token["logprob"]);
  logprobs["top_logprobs"].push_back(std::move(top));
}

// The prompt's tokens, of which nothing foretells the first. One that the tokenizer put before the text is
// none of its characters.
void Reply::add_echo(std::size_t prompt, Answer& answer, Json& logprobs) const {
  const std::string& text = call_.prompt_texts[prompt];
  const Json first = token_json({call_.requests[prompt].prompt.front(), 0});
  const auto& piece = first["token"].get_ref<const std::string&>();
  answer.text_offset = text.starts_with(piece) ? num_characters(piece) : 0;
  logprobs["tokens"].push_back(piece);
  logprobs["token_logprobs"].push_back(nullptr);
  logprobs["top_logprobs"].push_back(nullptr);
  logprobs["text_offset"].push_back(0);
  const auto count = static_cast<std::size_t>(call_.requests[prompt].sampling.num_logprobs) + 1;
  for (const auto& candidates : prompt_logprobs_[prompt])
    add_token(std::span(candidates).first(std::min(count, candidates.size())), answer, logprobs);
  answer.text_offset = num_characters(text);
}

// As vLLM has them: per token by id {logprob, rank, decoded_token}, the token itself first; null for the
// first. The rank is null where the token is not among the likeliest.
Json Reply::prompt_logprobs_json(std::size_t prompt) const {
  Json tokens = Json::array({nullptr});
  for (const auto& candidates : prompt_logprobs_[prompt]) {
    const auto count = std::min(static_cast<std::size_t>(call_.num_prompt_logprobs) + 1, candidates.size());
    Json token = Json::object();
    for (std::size_t rank = 0; rank < count; ++rank) {
      const TokenLogprob& candidate = candidates[rank];
      Json& entry = token[std::to_string(candidate.token)];
      if (entry.is_null())
        entry = {{"logprob", candidate.logprob},
                 {"rank", nullptr},
                 {"decoded_token", token_json(candidate)["token"]}};
      if (rank > 0) entry["rank"] = rank;
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// What the event adds to a chat's answer; at its end, also what was held back.
ChatDelta Reply::read(Answer& answer, const OutputEvent& event) {
  ChatDelta delta = answer.output->feed(event.text);
  if (event.finish_reason == FinishReason::kNone) return delta;
  ChatDelta rest = answer.output->finish();
  delta.reasoning += rest.reasoning;
  delta.content += rest.content;
  for (auto& call : rest.calls) delta.calls.push_back(std::move(call));
  return delta;
}

// Formatted here: as a Json, a chunk of one token costs more than all else that is done for it.
std::string Reply::chunk_of(const std::string& choice, const std::string& usage) const {
  return event_text(chunk_head_ + choice + "]" + usage + "}");
}

std::string Reply::chunk(const Generation::Piece& piece, const Generation& generation) {
  const std::size_t index = index_of(piece);
  Answer& answer = answers_[index];
  Json logprobs;
  keep_prompt(piece);
  add_logprobs(piece, answer, logprobs);
  const bool first = !std::exchange(answer.begun, true);
  std::string usage;
  if (call_.continuous_usage) usage = ",\"usage\":" + dump(usage_json(generation.usage()));
  std::string role, choice = "{\"index\":" + std::to_string(index);
  if (call_.chat) {
    if (first) role = chunk_of(dump(role_choice(index)), usage);
    const ChatDelta delta = read(answer, piece.event);
    const bool ends = piece.event.finish_reason != FinishReason::kNone;
    if (delta.empty() && logprobs.is_null() && !ends) return role;
    choice += ",\"delta\":" + dump(delta_json(delta));
  } else {
    const std::string& text = piece.event.text;
    choice += ",\"text\":" + dump(first ? call_.prompt_texts[piece.prompt] + text : text);
  }
  choice += ",\"logprobs\":" + dump(logprobs);
  if (piece.event.finish_reason != FinishReason::kNone) answer.finish_reason = piece.event.finish_reason;
  choice += ",\"finish_reason\":" + dump(reason_json(answer, piece.event.finish_reason)) + "}";
  return role + chunk_of(choice, usage);
}

// With what the call took of the device. Joules are null where no sensor tells them.
Json Reply::whole_usage_json(const RequestUsage& usage) const {
  CallAccount account;
  set_usage(account, usage);
  Json own;
  for (std::size_t phase = 0; phase < kNumPhases; ++phase)
    own[kPhaseNames[phase]] = {{"flops", account.flops[phase]},
                               {"bytes", account.bytes[phase]},
                               {"device_seconds", account.device_s[phase]}};
  // Work that was aborted has no answer to tell it.
  own["wasted_flops"] = {{"recomputation", usage.prefill.executed_flops() - usage.prefill.useful_flops() +
                                               usage.decode.executed_flops() - usage.decode.useful_flops()}};
  own["waterfall_ns"] = {{"wall", usage.times.sum()}};
  for (std::size_t term = 0; term < kNumRequestTerms; ++term)
    own["waterfall_ns"][kRequestTermNames[term]] = usage.times.ns[term];
  own["joules"] = usage.joules ? Json(*usage.joules) : Json();
  own["cost"] = price_per_hour_
                    ? Json((account.device_s[0] + account.device_s[1]) * *price_per_hour_ / kSecondsPerHour)
                    : Json();
  Json json = usage_json(usage);
  json["redline"] = std::move(own);
  return json;
}

std::string Reply::usage_chunk(const RequestUsage& usage) const {
  Json chunk = head(call_.chat ? "chat.completion.chunk" : "text_completion");
  chunk["choices"] = Json::array();
  chunk["usage"] = whole_usage_json(usage);
  return event_text(dump(chunk));
}

void Reply::add(const Generation::Piece& piece) {
  Answer& answer = answers_[index_of(piece)];
  if (call_.chat) {
    const ChatDelta delta = read(answer, piece.event);
    answer.reasoning += delta.reasoning;
    answer.text += delta.content;
    for (const ChatDelta::Call& call : delta.calls) {
      if (!call.name.empty()) answer.tool_calls.push_back(call_json(call.name, ""));
      auto& arguments = answer.tool_calls.back()["function"]["arguments"].get_ref<std::string&>();
      arguments += call.arguments;
    }
  } else {
    answer.text += piece.event.text;
  }
  keep_prompt(piece);
  add_logprobs(piece, answer, answer.logprobs);
  answer.begun = true;
  if (piece.event.finish_reason != FinishReason::kNone) answer.finish_reason = piece.event.finish_reason;
}

std::vector<std::string> Reply::finish_reasons() const {
  std::vector<std::string> reasons;
  for (const Answer& answer : answers_)
    if (answer.finish_reason != FinishReason::kNone)
      reasons.push_back(reason_json(answer, answer.finish_reason));
  return reasons;
}

std::string Reply::body(const RequestUsage& usage) const {
  Json choices = Json::array();
  for (std::size_t i = 0; i < answers_.size(); ++i) {
    const Answer& answer = answers_[i];
    Json choice{{"index", i}};
    if (call_.chat) {
      Json& message = choice["message"] = {{"role", "assistant"}, {"content", answer.text}};
      if (!answer.reasoning.empty()) message["reasoning_content"] = answer.reasoning;
      if (!answer.tool_calls.empty()) message["tool_calls"] = answer.tool_calls;
    } else {
      const std::size_t prompt = i / static_cast<std::size_t>(call_.requests.front().n);
      choice["text"] = call_.prompt_texts[prompt] + answer.text;
      if (call_.num_prompt_logprobs >= 0) choice["prompt_logprobs"] = prompt_logprobs_json(prompt);
    }
    choice["logprobs"] = answer.logprobs;
    choice["finish_reason"] = reason_json(answer, answer.finish_reason);
    choices.push_back(std::move(choice));
  }
  Json body = head(call_.chat ? "chat.completion" : "text_completion");
  body["choices"] = std::move(choices);
  if (call_.chat && call_.num_prompt_logprobs >= 0) body["prompt_logprobs"] = prompt_logprobs_json(0);
  body["usage"] = whole_usage_json(usage);
  return dump(body);
}

}  // namespace redline::server
