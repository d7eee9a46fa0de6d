// Constraints of one model, compiled as requests bring them and kept for those that bring the same.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/constraint/constraint.h"
#include "engine/constraint/tool_grammar.h"

namespace redline {

/// Thread-safe. Every call throws GrammarError for what is wrong, not supported, too large, or takes longer
/// than kTimeLimit to compile; it takes from under a millisecond to that, so is not for a thread that others
/// wait on.
class ConstraintCompiler {
 public:
  static constexpr std::chrono::milliseconds kTimeLimit{2000};
  static constexpr std::size_t kMaxSchemaBytes = 1u << 18;

  /// Keeps a reference to `tokenizer`; its vocabulary is gone through once, at the first call.
  explicit ConstraintCompiler(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// JSON that the schema accepts.
  std::shared_ptr<Constraint> json_schema(const nlohmann::ordered_json& schema);
  /// Any JSON object.
  std::shared_ptr<Constraint> json_object();
  /// GBNF.
  std::shared_ptr<Constraint> gbnf(const std::string& grammar);
  /// Texts that the regular expression matches as a whole.
  std::shared_ptr<Constraint> regex(const std::string& pattern);
  /// One of these texts.
  std::shared_ptr<Constraint> choice(const std::vector<std::string>& texts);
  /// One or more calls of the tools, as the model writes them.
  std::shared_ptr<Constraint> tool_calls(const nlohmann::ordered_json& tools, const ToolCallLayout& form);

 private:
  using Deadline = std::chrono::steady_clock::time_point;
  static constexpr std::size_t kMostKept = 32;
  std::shared_ptr<Constraint> compiled(const std::string& key, const std::function<Grammar(Deadline)>& make);
  std::shared_ptr<const ConstraintVocabulary> vocabulary();

  const Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::shared_ptr<const ConstraintVocabulary> vocabulary_;
  std::list<std::pair<std::string, std::shared_ptr<Constraint>>> kept_;  // the last used first
};

}  // namespace redline
