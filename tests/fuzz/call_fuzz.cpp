// Bodies of calls: after a first byte that says of which route. What is taken obeys every limit that the
// engine relies on; what is not is refused with a code, in few words.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "engine/tokenizer/tokenizer.h"
#include "server/call.h"
#include "server/text_routes.h"

namespace {

using namespace redline;
using namespace redline::server;

void check(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", claim);
  std::abort();
}

constexpr const char* kTemplate =
    R"({%- if tools %}{{ '<|im_start|>system\n<tools>' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{{ '</tools><tool_call>\n' }}{% endif %}
{%- for m in messages %}{% if m.role not in ['system', 'user', 'assistant', 'tool'] %}{{ raise_exception('no role ' ~ m.role) }}{% endif %}
{{- '<|im_start|>' ~ m.role ~ '\n' ~ m.content }}
{%- for call in m.tool_calls or [] %}{{ '<tool_call>' ~ (call.function | tojson) }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>' if thinking else '<|im_start|>assistant\n' }}{% endif %})";

/// A model's face without the model: tokens are visible characters.
struct Face {
  Face() {
    TokenizerSpec spec{.tokens = {"\n"}, .byte_level = false, .chat_template = kTemplate};
    for (char c = ' '; c < 0x7F; ++c) spec.tokens.emplace_back(1, c);
    for (const char* name : {"<|im_start|>", "<|im_end|>", "<tool_call>", "<think>"}) {
      spec.added_tokens.push_back(
          {.id = static_cast<TokenId>(spec.tokens.size()), .content = name, .special = true});
      spec.tokens.emplace_back(name);
    }
    spec.eos_id = static_cast<TokenId>(spec.tokens.size()) - 3;
    model.config.vocab_size = static_cast<std::int64_t>(spec.tokens.size());
    model.tokenizer = std::make_unique<Tokenizer>(std::move(spec));
    chat = std::make_unique<ChatPrompt>(*model.tokenizer);
    constraints = std::make_unique<ConstraintCompiler>(*model.tokenizer);
    served.model = &model;
    served.chat = chat.get();
    served.max_context = 512;
    served.names = {"tiny", "other"};
    served.tool_calls = find_tool_call_form("hermes", "");
    served.reasoning = find_reasoning_form("think", "");
    served.constraints = constraints.get();
  }

  LoadedModel model;
  std::unique_ptr<ChatPrompt> chat;
  std::unique_ptr<ConstraintCompiler> constraints;
  ServedModel served;
};

void check_refusal(const ApiError& error) {
  static const std::set<std::string> kCodes = {"invalid_json",        "invalid_value",   "unsupported",
                                               "unsupported_content", "no_tokenizer",    "template_error",
                                               "invalid_schema",      "invalid_grammar", "model_not_found"};
  check(error.status() == 400 || error.status() == 404, "the status of a refusal");
  const auto body = nlohmann::json::parse(error.body())["error"];
  check(body["code"].is_string() && kCodes.contains(body["code"].get<std::string>()),
        "a refusal has a code that is known");
  check(body["message"].get<std::string>().size() < 4000, "a short refusal");
}

bool within(float value, float low, float high) { return value >= low && value <= high; }

void check_sampling(const SamplingParams& params, std::int64_t vocab_size) {
  check(within(params.temperature, 0, 100), "temperature");
  check(params.top_k >= -1, "top_k");
  check(params.top_p > 0 && params.top_p <= 1, "top_p");
  check(within(params.min_p, 0, 1), "min_p");
  check(params.repetition_penalty > 0 && params.repetition_penalty <= 1000, "repetition_penalty");
  check(within(params.presence_penalty, -1000, 1000) && within(params.frequency_penalty, -1000, 1000),
        "penalties");
  check(params.max_tokens >= -1, "max_tokens");
  check(params.min_tokens >= 0, "min_tokens");
  check(params.num_logprobs >= -1 && params.num_logprobs <= 20, "logprobs");
  check(params.num_prompt_logprobs >= -1 && params.num_prompt_logprobs <= 20, "prompt_logprobs");
  check(params.stop.size() <= 16 && !std::ranges::count(params.stop, ""), "stop");
  check(params.logit_bias.size() <= 1024 && params.stop_token_ids.size() <= 256, "numbers of tokens");
  for (const auto& [token, bias] : params.logit_bias)
    check(token >= 0 && token < vocab_size && within(bias, -100, 100), "logit_bias");
  if (params.token_rules) {
    check(params.token_rules->allowed.size() <= static_cast<std::size_t>(vocab_size + 63) / 64, "allowed");
    for (const auto& bad : params.token_rules->bad_sequences)
      check(!bad.empty() && std::ranges::all_of(bad, [&](auto id) { return id >= 0 && id < vocab_size; }),
            "bad_words");
  }
  for (const auto token : params.stop_token_ids) check(token >= 0 && token < vocab_size, "stop_token_ids");
}

void check_call(const Call& call, bool chat, const ServedModel& served) {
  const std::int64_t vocab_size = served.model->config.vocab_size;
  check(call.chat == chat && !call.requests.empty() && call.requests.size() <= (chat ? 1u : 128u),
        "the number of prompts");
  check(call.prompt_texts.size() == call.requests.size(), "a text for each prompt");
  check(std::ranges::count(served.names, call.model) == 1, "a model that is served");
  check(!call.stream || call.num_prompt_logprobs < 0, "prompt_logprobs in whole answers only");
  check(call.stream || !(call.include_usage || call.continuous_usage), "usage in streams only");
  for (const Request& request : call.requests) {
    check(request.n >= 1 && request.n <= 128, "n");
    for (const auto token : request.prompt) check(token >= 0 && token < vocab_size, "the prompt's tokens");
    check_sampling(request.sampling, vocab_size);
  }
}

void read(char route, const std::string& body, const ServedModel& served) {
  switch (route) {
    case 't':
      return check(tokenize(body, served).status == 200, "tokens");
    case 'd':
      return check(detokenize(body, served).status == 200, "a text");
    case 'a':
      return check(apply_template(body, served).status == 200, "a prompt");
    case 'm':
      return check_call(parse_chat(parse_body(body), served), true, served);
    default:
      return check_call(parse_completion(parse_body(body), served), false, served);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const Face face;
  try {
    read(static_cast<char>(data[0]), std::string(reinterpret_cast<const char*>(data) + 1, size - 1),
         face.served);
  } catch (const ApiError& error) {
    check_refusal(error);
  }
  return 0;
}
