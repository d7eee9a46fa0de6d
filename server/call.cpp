#include "server/call.h"

#include <algorithm>
#include <limits>
#include <random>
#include <stdexcept>
#include <utility>

#include "engine/tokenizer/tokenizer.h"
#include "server/answer_constraint.h"

namespace redline::server {
namespace {

constexpr std::int64_t kMaxAnswers = 128, kMaxPrompts = 128, kMaxLogprobs = 20;
constexpr double kMaxPenalty = 1000;
constexpr std::size_t kLongestStop = 4096;  // each of thousands of answers may hold back so much

const Tokenizer& tokenizer_of(const ServedModel& served) {
  if (!served.model->tokenizer)
    throw ApiError(400, "the model has no tokenizer: give the prompt as token ids", "prompt", "no_tokenizer");
  return *served.model->tokenizer;
}

void refuse(const Fields& fields, const char* key, const char* why) {
  if (fields.find(key)) throw ApiError(400, std::string(key) + ": " + why, key, "unsupported");
}

void read_bias(const Fields& fields, std::int64_t vocab_size, SamplingParams& params) {
  const Json* bias = fields.find("logit_bias");
  if (!bias) return;
  if (!bias->is_object() || bias->size() > 1024)
    fields.fail("logit_bias", "an object of at most 1024 token ids");
  for (const auto& [key, value] : bias->items()) {
    const bool digits = !key.empty() && key.size() <= 9 &&
                        std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || std::stoll(key) >= vocab_size || !value.is_number() ||
        !(std::abs(value.get<double>()) <= 100))
      fields.fail("logit_bias",
                  "token ids below " + std::to_string(vocab_size) + " with numbers from -100 to 100");
    params.logit_bias.emplace_back(static_cast<std::int32_t>(std::stoll(key)), value.get<float>());
  }
}

// bad_words as vLLM has them: the words' tokens as they are at a text's begin and after a space.
std::shared_ptr<const TokenRules> read_token_rules(const Fields& fields, const ServedModel& served) {
  TokenRules rules;
  const std::int64_t vocab_size = served.model->config.vocab_size;
  for (const auto id :
       fields.integers("allowed_token_ids", 0, vocab_size - 1, static_cast<std::size_t>(vocab_size)))
    rules.allow(static_cast<std::int32_t>(id));
  if (fields.find("allowed_token_ids") && rules.allowed.empty())
    fields.fail("allowed_token_ids", "one token id at least");
  for (const std::string& word : fields.texts("bad_words", 1024)) {
    const std::size_t begin = word.find_first_not_of(' ');
    if (begin == std::string::npos) fields.fail("bad_words", "words, none of them empty");
    for (const std::string& text : {word.substr(begin), ' ' + word.substr(begin)}) {
      auto ids = tokenizer_of(served).encode(text, {.add_special = false, .parse_special = false});
      if (!ids.empty()) rules.bad_sequences.push_back(std::move(ids));
    }
  }
  if (rules.allowed.empty() && rules.bad_sequences.empty()) return nullptr;
  return std::make_shared<const TokenRules>(std::move(rules));
}

// `least_tokens`: of max_tokens.
SamplingParams read_sampling(const Fields& fields, const ServedModel& served, std::int64_t least_tokens) {
  SamplingParams params;
  const auto number = [&](const char* key, double low, double high, double otherwise) {
    return static_cast<float>(fields.number(key, low, high).value_or(otherwise));
  };
  constexpr auto kMost = std::numeric_limits<std::int32_t>::max();
  const SamplingDefaults& absent = served.model->sampling;
  params.temperature = number("temperature", 0, 100, absent.temperature.value_or(1));
  params.top_p = number("top_p", 1e-9, 1, absent.top_p.value_or(1));
  params.min_p = number("min_p", 0, 1, absent.min_p.value_or(0));
  params.top_k =
      static_cast<std::int32_t>(fields.integer("top_k", -1, kMost).value_or(absent.top_k.value_or(0)));
  params.repetition_penalty =
      number("repetition_penalty", 1e-3, kMaxPenalty, absent.repetition_penalty.value_or(1));
  params.presence_penalty = number("presence_penalty", -kMaxPenalty, kMaxPenalty, 0);
  params.frequency_penalty = number("frequency_penalty", -kMaxPenalty, kMaxPenalty, 0);
  const std::int64_t vocab_size = served.model->config.vocab_size;
  read_bias(fields, vocab_size, params);
  params.token_rules = read_token_rules(fields, served);
  const auto seed = fields.integer("seed", std::numeric_limits<std::int64_t>::min(),
                                   std::numeric_limits<std::int64_t>::max());
  params.seed =
      seed ? static_cast<std::uint64_t>(*seed) : std::random_device()() * std::uint64_t{0x9e3779b97f4a7c15};
  const char* max_key = fields.find("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  params.max_tokens = static_cast<std::int32_t>(fields.integer(max_key, least_tokens, kMost).value_or(-1));
  params.min_tokens = static_cast<std::int32_t>(fields.integer("min_tokens", 0, kMost).value_or(0));
  params.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  for (const auto id : fields.integers("stop_token_ids", 0, vocab_size - 1, 256))
    params.stop_token_ids.push_back(static_cast<std::int32_t>(id));
  params.stop = fields.texts("stop", 16);
  std::erase(params.stop, "");
  if (std::ranges::any_of(params.stop, [](const std::string& stop) { return stop.size() > kLongestStop; }))
    fields.fail("stop", "strings of at most " + std::to_string(kLongestStop) + " bytes");
  params.include_stop_in_output = fields.boolean("include_stop_str_in_output").value_or(false);
  params.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  return params;
}

/// What both routes share but the prompt and logprobs.
Request read_common(const Fields& fields, const ServedModel& served, Call& call) {
  call.model = read_model_name(fields, served);
  call.stream = fields.boolean("stream").value_or(false);
  if (const Json* options = fields.find("stream_options")) {
    if (!call.stream) fields.fail("stream_options", "none without stream");
    if (!options->is_object()) fields.fail("stream_options", "an object");
    const Fields inner(*options);
    call.include_usage = inner.boolean("include_usage").value_or(false);
    call.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
  }
  if (const auto count = fields.integer("prompt_logprobs", 0, kMaxLogprobs)) {
    if (call.stream) fields.fail("prompt_logprobs", "none with stream");
    call.num_prompt_logprobs = static_cast<std::int32_t>(*count);
  }
  const bool tells_prompt =
      call.num_prompt_logprobs >= 0 || (!call.chat && fields.boolean("echo").value_or(false));
  if (const Json* suffix = fields.find("suffix"); suffix && *suffix != "")
    refuse(fields, "suffix", "is not served");
  Request request;
  request.sampling = read_sampling(fields, served, tells_prompt ? 0 : 1);
  request.sampling.num_prompt_logprobs = call.num_prompt_logprobs;
  request.n = static_cast<std::int32_t>(fields.integer("n", 1, kMaxAnswers).value_or(1));
  if (fields.integer("best_of", 1, kMaxAnswers).value_or(request.n) != request.n)
    fields.fail("best_of", "n or nothing: all answers are returned");
  request.priority = static_cast<std::int32_t>(fields.integer("priority", -1000000, 1000000).value_or(0));
  request.constraint = read_constraint(fields, served.constraints);
  request.use_prefix_cache = fields.boolean("cache_prompt").value_or(true);
  return request;
}

std::vector<TokenId> read_ids(const Fields& fields, const Json& array, const ServedModel& served) {
  std::vector<TokenId> ids;
  for (const Json& id : array) {
    if (!id.is_number_integer() || id < 0 || id >= served.model->config.vocab_size)
      fields.fail("prompt", "token ids below " + std::to_string(served.model->config.vocab_size));
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

/// The answers are tool calls from their first token to their last.
void force_calls(const ServedModel& served, const ToolUse& use, Request& request, Call& call) {
  if (request.constraint)
    throw ApiError(400, "tool_choice: a required call leaves no choice to another constraint", "tool_choice",
                   "invalid_value");
  auto layout = served.tool_calls ? tool_call_layout(served.tool_calls->name) : std::nullopt;
  if (!layout) {  // the model's own form is no JSON
    call.output.calls = find_tool_call_form("json", "");
    layout = tool_call_layout("json");
  }
  if (use.one_call) layout->max_calls = 1;
  call.output.reasoning = nullptr;
  try {
    request.constraint = served.constraints->tool_calls(use.callable, *layout);
  } catch (const GrammarError& error) {
    throw ApiError(400, std::string("tools: ") + error.what(), "tools", "invalid_schema");
  }
}

/// What the text of the answers to `prompt` is read for; the markers stay in it.
void read_output(const ServedModel& served, const ToolUse& use, std::string_view prompt, Request& request,
                 Call& call) {
  auto& shown = request.sampling.shown_special_tokens;
  if (served.reasoning) {
    call.output.reasoning = served.reasoning;
    call.output.reasoning_open =
        prompt.substr(0, prompt.find_last_not_of(" \t\r\n") + 1).ends_with(served.reasoning->open);
    shown = served.reasoning_tokens;
  }
  if (served.tool_calls && use.may_call) {
    call.output.calls = served.tool_calls;
    shown.insert(shown.end(), served.tool_call_tokens.begin(), served.tool_call_tokens.end());
  }
  if (use.must_call) force_calls(served, use, request, call);
  call.output.tools = use.names;
  call.output.one_call = use.one_call;
  call.output.whole_calls = !call.stream;
}

}  // namespace

void check_model_name(const std::string& name, const ServedModel& served) {
  if (std::ranges::find(served.names, name) == served.names.end())
    throw ApiError(404, "the model '" + name + "' is not served here; '" + served.names.front() + "' is",
                   "model", "model_not_found");
}

std::string read_model_name(const Fields& fields, const ServedModel& served) {
  const std::string name = fields.text("model").value_or(served.names.front());
  check_model_name(name, served);
  return name;
}

Call parse_completion(const Json& body, const ServedModel& served) {
  const Fields fields(body);
  Call call;
  Request request = read_common(fields, served, call);
  SamplingParams& sampling = request.sampling;
  sampling.num_logprobs = static_cast<std::int32_t>(fields.integer("logprobs", 0, kMaxLogprobs).value_or(-1));
  const bool echo = fields.boolean("echo").value_or(false);
  call.echoes_logprobs = echo && sampling.num_logprobs >= 0;
  if (call.echoes_logprobs)
    sampling.num_prompt_logprobs = std::max(sampling.num_prompt_logprobs, sampling.num_logprobs);
  const Json* prompt = fields.find("prompt");
  if (!prompt) fields.fail("prompt", "a string, an array of strings, or token ids");
  const auto add = [&](const Json& each) {
    Request& added = call.requests.emplace_back(request);
    if (each.is_string()) {
      const bool special = fields.boolean("add_special_tokens").value_or(true);
      added.prompt =
          tokenizer_of(served).encode(each.get_ref<const std::string&>(), {.add_special = special});
      call.prompt_texts.push_back(echo ? each.get<std::string>() : "");
    } else if (each.is_array()) {
      added.prompt = read_ids(fields, each, served);
      call.prompt_texts.push_back(echo ? tokenizer_of(served).decode(added.prompt) : "");
    } else {
      fields.fail("prompt", "a string, an array of strings, or token ids");
    }
  };
  const bool one =
      prompt->is_string() || (prompt->is_array() && !prompt->empty() && prompt->front().is_number());
  if (one) {
    add(*prompt);
  } else {
    if (!prompt->is_array() || prompt->empty() || std::ssize(*prompt) > kMaxPrompts)
      fields.fail("prompt", "1 to " + std::to_string(kMaxPrompts) + " prompts");
    for (const Json& each : *prompt) add(each);
  }
  return call;
}

std::string render_chat(const Fields& fields, const ToolUse& use, const ServedModel& served) {
  Json messages = read_messages(fields);
  Json variables = Json::object();
  if (const Json* more = fields.find("chat_template_kwargs")) {
    if (!more->is_object()) fields.fail("chat_template_kwargs", "an object");
    variables = *more;
  }
  place_tools(use, tokenizer_of(served).spec().chat_template, messages, variables);
  const bool go_on = fields.boolean("continue_final_message").value_or(false);
  const bool open_turn = fields.boolean("add_generation_prompt").value_or(!go_on);
  if (go_on && open_turn) fields.fail("continue_final_message", "false where add_generation_prompt is true");
  std::string text;
  try {
    text = served.chat->render(messages, use.tools, open_turn, variables);
  } catch (const std::runtime_error& error) {
    throw ApiError(400, std::string("messages: ") + error.what(), "messages", "template_error");
  }
  if (!go_on) return text;
  const std::string last = messages.back()["content"];  // what follows it closes the turn
  const auto at = text.rfind(last);
  if (at == std::string::npos)
    throw ApiError(400, "continue_final_message: the template changes the last message",
                   "continue_final_message", "template_error");
  return text.substr(0, at + last.size());
}

Call parse_chat(const Json& body, const ServedModel& served) {
  const Fields fields(body);
  Call call;
  call.chat = true;
  Request request = read_common(fields, served, call);
  const auto top = fields.integer("top_logprobs", 0, kMaxLogprobs);
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  if (top && !logprobs) fields.fail("top_logprobs", "none without logprobs");
  if (logprobs) request.sampling.num_logprobs = static_cast<std::int32_t>(top.value_or(0));
  const ToolUse use = read_tools(fields);
  const std::string text = render_chat(fields, use, served);
  request.prompt = tokenizer_of(served).encode(text, {.add_special = false, .parse_special = true});
  read_output(served, use, text, request, call);
  call.requests.push_back(std::move(request));
  call.prompt_texts.emplace_back();
  return call;
}

}  // namespace redline::server
