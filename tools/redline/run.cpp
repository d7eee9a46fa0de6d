// redline run: one prompt, its answer on stdout as it comes, and the utilisation report on stderr.
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/chat_prompt.h"
#include "engine/constraint/constraint_compiler.h"
#include "tools/redline/command.h"
#include "tools/redline/session.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct RunFlags {
  std::string model;
  std::optional<std::string> prompt;
  std::string file, prompt_tokens, system, trace, save_session, load_session;
  std::string json_schema, grammar_file;
  bool raw = false, json = false, explain = false;
  std::int32_t num_logprobs = -1;
  ModelFlags model_flags;
  CacheFlags cache;
  SamplingFlags sampling;
};

/// The prompt's text, from wherever the flags say.
std::string prompt_text(const RunFlags& flags) {
  if (!flags.file.empty()) return read_file(flags.file);
  if (flags.prompt && *flags.prompt != "-") return *flags.prompt;
  if (!flags.prompt && isatty(STDIN_FILENO) == 1)
    throw UsageError("no prompt: give --prompt TEXT, --file FILE or a pipe");
  return read_standard_input();
}

std::vector<std::int32_t> prompt_ids(const RunFlags& flags, const LoadedModel& model,
                                     const std::string& text) {
  if (!flags.prompt_tokens.empty()) return read_token_ids(flags.prompt_tokens);
  const Tokenizer& tokenizer = tokenizer_of(model);
  const ChatPrompt chat(tokenizer);
  if (flags.raw || !chat) return tokenizer.encode(text);
  Json messages = Json::array();
  if (!flags.system.empty()) messages.push_back({{"role", "system"}, {"content", flags.system}});
  messages.push_back({{"role", "user"}, {"content", text}});
  return chat.tokens(messages);
}

/// What the answer must look like; null: anything. Throws std::runtime_error naming the file.
std::shared_ptr<Constraint> constraint_of(const RunFlags& flags, const LoadedModel& model) {
  if (flags.json_schema.empty() && flags.grammar_file.empty()) return nullptr;
  ConstraintCompiler compiler(tokenizer_of(model));
  const bool inline_schema = flags.json_schema.find_first_not_of(" \t\r\n") == flags.json_schema.find('{');
  const std::string source = !flags.grammar_file.empty() ? flags.grammar_file
                             : inline_schema             ? "--json-schema"
                                                         : flags.json_schema;
  try {
    if (!flags.grammar_file.empty()) return compiler.gbnf(read_file(flags.grammar_file));
    return compiler.json_schema(
        Json::parse(inline_schema ? flags.json_schema : read_file(flags.json_schema)));
  } catch (const GrammarError& error) {
    throw std::runtime_error(source + ": " + error.what());
  } catch (const Json::parse_error& error) {
    throw std::runtime_error(source + ": no JSON at byte " + std::to_string(error.byte));
  }
}

// `tokenizer` may be null: then the tokens have no text.
Json logprobs_json(const Tokenizer* tokenizer, const Reply& answer) {
  Json tokens = Json::array();
  const auto entry = [&](const TokenLogprob& token) {
    return Json{{"id", token.token},
                {"token", tokenizer ? tokenizer->decode(std::span(&token.token, 1)) : ""},
                {"logprob", token.logprob}};
  };
  for (const auto& candidates : answer.logprobs) {
    Json token = entry(candidates.front());
    token["top"] = Json::array();
    for (const TokenLogprob& candidate : std::span(candidates).subspan(1))
      token["top"].push_back(entry(candidate));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

int run(const RunFlags& flags) {
  if ((flags.prompt ? 1 : 0) + (flags.file.empty() ? 0 : 1) + (flags.prompt_tokens.empty() ? 0 : 1) > 1)
    throw UsageError("--prompt, --file and --prompt-tokens exclude each other");
  if (!flags.json_schema.empty() && !flags.grammar_file.empty())
    throw UsageError("--json-schema and --grammar-file exclude each other");
  Request request;
  request.sampling = flags.sampling.sampling();
  request.sampling.num_logprobs = flags.num_logprobs;
  const std::string text = flags.prompt_tokens.empty() ? prompt_text(flags) : "";
  Session session(load_model(flags.model, flags.model_flags), flags.cache.options, flags.trace,
                  flags.explain ? sensors_of(flags.model_flags.device) : nullptr);
  request.prompt = prompt_ids(flags, session.model(), text);
  request.constraint = constraint_of(flags, session.model());

  if (!flags.load_session.empty()) session.load(flags.load_session);
  std::vector<std::int32_t> tokens = request.prompt;  // with the answer, once it is there

  Json result{{"model", model_name(flags.model)}};
  if (flags.json) result["prompt_token_ids"] = request.prompt;
  const Reply answer = session.answer(std::move(request), [&](std::string_view piece) {
    if (flags.json) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  });
  session.close_trace();
  if (!flags.load_session.empty())
    std::fprintf(stderr, "%s held %lld of the prompt's %zu tokens\n", flags.load_session.c_str(),
                 static_cast<long long>(answer.summary.cached_tokens), tokens.size());
  if (!flags.save_session.empty()) {
    tokens.insert(tokens.end(), answer.token_ids.begin(), answer.token_ids.end());
    std::fprintf(stderr, "%s: %lld of %zu tokens saved\n", flags.save_session.c_str(),
                 static_cast<long long>(session.save(tokens, flags.save_session)), tokens.size());
  }

  if (flags.json) {
    result["text"] = answer.text;
    result["token_ids"] = answer.token_ids;
    result["finish_reason"] = name(answer.finish_reason);
    result["cached_tokens"] = answer.summary.cached_tokens;
    result["logprobs"] =
        flags.num_logprobs < 0 ? Json() : logprobs_json(session.model().tokenizer.get(), answer);
    result["utilization"] = session.utilization(answer.summary);
    if (flags.explain) {
      const Explanation explanation = session.explanation(answer.summary);
      explanation.add_to(result["utilization"]);
      result["explanation"] = explanation.json();
    }
    std::printf("%s\n", result.dump().c_str());
  } else {
    std::printf("\n");
    std::fflush(stdout);
    std::fprintf(stderr, "\n%s", session.report(answer.summary).c_str());
    if (flags.explain) std::fprintf(stderr, "\n%s", session.explanation(answer.summary).report().c_str());
  }
  return answer.interrupted ? kExitInterrupted : kExitDone;
}

}  // namespace

Action declare_run(Flags& flags) {
  const auto values = std::make_shared<RunFlags>();
  add_model_argument(flags, values->model);
  flags.text("-p,--prompt", "TEXT", "The prompt; - or a pipe: standard input", values->prompt);
  flags.text("-f,--file", "FILE", "Read the prompt from a file", values->file);
  flags.text("--prompt-tokens", "FILE", "Take the prompt as a JSON array of token ids",
             values->prompt_tokens);
  flags.text("--system", "TEXT", "A system message before the prompt", values->system);
  flags.flag("--raw", "Do not apply the model's chat template", values->raw);
  flags.text("--json-schema", "SCHEMA", "Answer with JSON that this schema (a file, or JSON itself) accepts",
             values->json_schema);
  flags.text("--grammar-file", "FILE", "Answer with a text of this GBNF grammar", values->grammar_file);
  values->sampling.add_to(flags);
  flags.number("--logprobs", "With --json: each token's log-probability and the N likeliest",
               values->num_logprobs, 0, 20);
  values->cache.add_to(flags);
  values->model_flags.add_to(flags);
  flags.text("--save-session", "FILE", "Keep the cache of prompt and answer in a file", values->save_session);
  flags.text("--load-session", "FILE",
             "Go on from such a file: what it holds of the prompt is not computed again",
             values->load_session);
  flags.flag("--json", "Print one JSON object instead of text", values->json);
  flags.flag("--explain", "Say where the time went, why, and what would change it", values->explain);
  add_trace_flag(flags, values->trace);
  return [values] { return run(*values); };
}

}  // namespace redline
