// Tokens to expressions, by jinja2's grammar.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/chat_template/ast.h"
#include "engine/chat_template/chat_template.h"
#include "engine/chat_template/lexer.h"

namespace redline::jinja {

/// Reads a template's tokens front to back; the statements' parser (parser.cpp) builds on it. Every function
/// throws TemplateError at the line of the first mistake, or where the source nests too deeply.
class ExpressionParser {
 protected:
  using Kind = Token::Kind;
  using Names = std::initializer_list<std::string_view>;

  explicit ExpressionParser(std::string_view source) : tokens_(tokenize(source)) {}

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  int line() const { return now().line; }
  Token take() { return now().kind == Kind::kEnd ? now() : tokens_[at_++]; }

  [[noreturn]] void fail(const std::string& message) const { throw TemplateError(line(), message); }
  [[noreturn]] void unexpected(const std::string& wanted) const {
    constexpr std::array kNames = {"text", "'{{'", "'}}'", "'{%'", "'%}'"};
    const auto kind = static_cast<std::size_t>(now().kind);
    const std::string found = now().kind == Kind::kEnd ? "the end of the template"
                              : kind < kNames.size()   ? kNames[kind]
                                                       : "'" + now().text + "'";
    fail("expected " + wanted + ", found " + found);
  }

  bool at_operator(std::string_view text) const {
    return now().kind == Kind::kOperator && now().text == text;
  }
  bool at_name(std::string_view text) const { return now().kind == Kind::kName && now().text == text; }
  bool skip_operator(std::string_view text) { return at_operator(text) && (++at_, true); }
  bool skip_name(std::string_view text) { return at_name(text) && (++at_, true); }
  void expect(Kind kind, const std::string& wanted) {
    if (now().kind != kind) unexpected(wanted);
    ++at_;
  }
  void expect_operator(const char* text) {
    if (!skip_operator(text)) unexpected(std::string("'") + text + "'");
  }
  std::string expect_name(const char* wanted) {
    if (now().kind != Kind::kName) unexpected(wanted);
    return take().text;
  }

  /// A level of recursion, for as long as it lives.
  struct Deeper {
    explicit Deeper(ExpressionParser& parser) : depth(parser.depth_) {
      if (++depth > kMaxDepth) parser.fail("the template nests too deeply");
    }
    ~Deeper() { --depth; }
    int& depth;
  };

  ExpressionPtr node(Expression::Kind kind, std::string text = "", int at_line = 0);
  void raise(Expression& parent, const ExpressionPtr& child);
  void adopt(Expression& parent, ExpressionPtr child);
  ExpressionPtr binary(Expression::Kind kind, std::string op, int at_line, ExpressionPtr left,
                       ExpressionPtr right);

  /// One expression, or several with commas between them: a tuple.
  ExpressionPtr tuple(bool with_condition = true, bool in_parentheses = false);
  ExpressionPtr expression();
  ExpressionPtr disjunction();  // one without "if"
  /// "| name(...) | ..." or, `bare`, without the first "|".
  ExpressionPtr filters(ExpressionPtr value, bool bare);

 private:
  // The loosest binding first.
  ExpressionPtr conjunction();
  ExpressionPtr negation();
  // The comparison operator at hand, taken; or nothing.
  std::optional<std::string> comparison_operator();
  ExpressionPtr comparison();
  using Operand = ExpressionPtr (ExpressionParser::*)();
  ExpressionPtr chain(Names operators, Operand operand);
  ExpressionPtr sum();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr filtered();
  ExpressionPtr concatenation();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr constant(Value value);
  ExpressionPtr primary();
  Value number(const Token& token);
  ExpressionPtr list();
  ExpressionPtr dictionary();
  ExpressionPtr postfixes(ExpressionPtr value);
  ExpressionPtr attribute(ExpressionPtr value);
  ExpressionPtr subscript(ExpressionPtr value);
  // "(...)" of a call, a filter or a test.
  void arguments(Expression& owner);
  ExpressionPtr call(ExpressionPtr callee);
  ExpressionPtr test(ExpressionPtr value);

  static constexpr int kMaxDepth = 200;    // of recursion here
  static constexpr int kMaxHeight = 1000;  // of an expression: chains are high without recursion here

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace redline::jinja
