// Grammars and schemas: after a first byte that says which, GBNF, a JSON schema, or a regular expression.
// What compiles is followed for some tokens: each that the mask holds goes on, one that it lacks does not.
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/constraint/constraint.h"
#include "engine/constraint/gbnf.h"
#include "engine/constraint/json_schema.h"

namespace {

using namespace redline;
using Deadline = std::chrono::steady_clock::time_point;

Grammar grammar_of(char kind, std::string_view text, Deadline deadline) {
  if (kind == 'g') return parse_gbnf(text);
  if (kind == 'r') return regex_grammar(text);
  const auto schema = nlohmann::ordered_json::parse(text, nullptr, false);
  if (schema.is_discarded()) throw GrammarError("no JSON");
  return json_schema_grammar(schema, deadline);
}

void follow(const std::shared_ptr<Constraint>& constraint, std::size_t num_tokens) {
  Matcher matcher(constraint);
  for (int step = 0; step < 16; ++step) {
    const auto mask = matcher.allowed();
    TokenId next = -1;
    for (std::size_t i = 0; i < num_tokens; ++i) {
      const auto token = static_cast<TokenId>((i * 7 + static_cast<std::size_t>(step) * 13) % num_tokens);
      Matcher tried = matcher;
      if (tried.advance(token) != mask->has(token)) {
        std::fprintf(stderr, "token %d and its mask disagree\n", token);
        std::abort();
      }
      if (mask->has(token)) next = token;
    }
    if (next < 0) return;
    matcher.advance(next);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const std::vector<std::string> kTexts = {
      "a", "b",  "\"",   "{",    "}",  "[",   "]",   ":",   ",",    "1",    "0",  "-", ".",
      " ", "\n", "\xC3", "\xA9", "ab", "{\"", "\":", "\"}", "null", "true", "\\", "x", "a\":1"};
  static const auto kVocabulary = std::make_shared<const ConstraintVocabulary>(kTexts);
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  try {
    const auto constraint = std::make_shared<Constraint>(
        grammar_of(static_cast<char>(data[0]), text, deadline), kVocabulary, deadline);
    follow(constraint, kTexts.size());
  } catch (const GrammarError& error) {
    if (std::string_view(error.what()).size() < 1000) return 0;
    std::fprintf(stderr, "a message of %zu bytes\n", std::string_view(error.what()).size());
    std::abort();
  } catch (const ConstraintError&) {
  }
  return 0;
}
