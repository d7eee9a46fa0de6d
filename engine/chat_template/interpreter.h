// Runs a template's syntax tree.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "engine/chat_template/ast.h"
#include "engine/chat_template/value.h"

namespace redline::jinja {

/// One rendering.
class Interpreter {
 public:
  Interpreter(Budget limits, std::chrono::system_clock::time_point time) : budget(limits), now(time) {}

  /// The text of `body` under `variables`. Throws Failure; line() is where.
  std::string run(const Block& body, Named variables);
  int line() const { return line_; }

  Value filter(const std::string& name, Arguments& arguments);
  bool test(const std::string& name, Arguments& arguments);
  Namespace* new_namespace() { return &namespaces_.emplace_back(); }

  Budget budget;
  const std::chrono::system_clock::time_point now;

 private:
  struct Scope {
    Named names;
    std::shared_ptr<Scope> parent;
  };
  enum class Flow : std::uint8_t { kNext, kBreak, kContinue };

  Flow execute(const Block& block);
  Flow execute(const Statement& statement);
  Flow execute_in_scope(const Block& block);
  Flow loop(const Statement& statement);
  std::string captured(const Block& block);
  void assign(const Expression& target, Value value);
  void define(std::string_view name, Value value);
  Value macro(const Statement& statement, const char* what);
  Value call_macro(const Statement& statement, const std::shared_ptr<Scope>& scope, Arguments& arguments);

  Value evaluate(const Expression& expression);
  Value compute(const Expression& expression);
  Value name(const std::string& name) const;
  Value call(const Expression& expression, Value* caller = nullptr);
  bool comparison(const Expression& expression);
  Value concatenation(const Expression& expression);
  Value operand(const Expression& expression, std::size_t i);
  /// Operands from `first` on and named ones.
  Arguments arguments(const Expression& expression, std::string_view name, std::size_t first);

  void write(std::string_view text);

  std::shared_ptr<Scope> scope_;
  std::deque<Namespace> namespaces_;
  std::string* out_ = nullptr;
  const Value* filtered_ = nullptr;  // what a filter block's first filter gets
  int line_ = 1;
};

}  // namespace redline::jinja
