#include "engine/chat_template/parser.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>

#include "engine/chat_template/chat_template.h"
#include "engine/chat_template/lexer.h"

namespace redline::jinja {
namespace {

constexpr int kMaxDepth = 200;    // of recursion here
constexpr int kMaxHeight = 1000;  // of an expression: chains of operators are deep without recursion here

using Kind = Token::Kind;
using Names = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Block template_body() {
    Block body = block({});
    return body;
  }

 private:
  // ---- tokens

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

  struct Deeper {
    explicit Deeper(Parser& parser) : depth(parser.depth_) {
      if (++depth > kMaxDepth) parser.fail("the template nests too deeply");
    }
    ~Deeper() { --depth; }
    int& depth;
  };

  // ---- statements

  // Up to a block tag with one of the names `ends`, whose name is the current token then.
  Block block(Names ends) {
    const Deeper deeper(*this);
    Block body;
    while (now().kind != Kind::kEnd) {
      const int start = line();
      if (now().kind == Kind::kData) {
        body.push_back({.kind = Statement::Kind::kData, .line = start, .text = take().text});
      } else if (now().kind == Kind::kOutputBegin) {
        ++at_;
        Statement output{.kind = Statement::Kind::kOutput, .line = start};
        output.expressions.push_back(tuple());
        expect(Kind::kOutputEnd, "'}}'");
        body.push_back(std::move(output));
      } else {
        expect(Kind::kBlockBegin, "a tag");
        if (now().kind == Kind::kName && std::ranges::find(ends, now().text) != ends.end()) return body;
        statement(body);
      }
    }
    if (ends.size() > 0) unexpected("'" + std::string(*std::prev(ends.end())) + "'");
    return body;
  }

  // A block and its end tag, which is one of `ends`: which one.
  std::string enclosed(Statement& owner, Names ends) {
    expect(Kind::kBlockEnd, "'%}'");
    owner.blocks.push_back(block(ends));
    return take().text;
  }

  void statement(Block& body) {
    const int start = line();
    const std::string name = expect_name("a tag's name");
    if (name == "generation") {  // marks what the assistant wrote; its text is as any other
      Statement mark{.kind = Statement::Kind::kWith, .line = start};
      enclosed(mark, {"endgeneration"});
      body.push_back(std::move(mark));
    } else if (name == "if") {
      body.push_back(if_statement(start));
    } else if (name == "for") {
      body.push_back(for_statement(start));
    } else if (name == "set") {
      body.push_back(set_statement(start));
    } else if (name == "macro") {
      Statement macro{.kind = Statement::Kind::kMacro, .line = start, .text = expect_name("a macro's name")};
      expect_operator("(");
      parameters(macro);
      enclosed(macro, {"endmacro"});
      body.push_back(std::move(macro));
    } else if (name == "call") {
      Statement call{.kind = Statement::Kind::kCallBlock, .line = start};
      if (skip_operator("(")) parameters(call);
      call.expressions.push_back(expression());
      if (call.expressions[0]->kind != Expression::Kind::kCall) fail("expected a call");
      enclosed(call, {"endcall"});
      body.push_back(std::move(call));
    } else if (name == "filter") {
      Statement filter{.kind = Statement::Kind::kFilterBlock, .line = start};
      filter.expressions.push_back(filters(nullptr, true));
      enclosed(filter, {"endfilter"});
      body.push_back(std::move(filter));
    } else if (name == "with") {
      body.push_back(with_statement(start));
    } else if (name == "break" || name == "continue") {
      if (num_loops_ == 0) fail("'" + name + "' outside of a loop");
      const auto kind = name == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue;
      body.push_back({.kind = kind, .line = start});
    } else {
      fail("unknown tag '" + name + "'");
    }
    expect(Kind::kBlockEnd, "'%}'");
  }

  Statement if_statement(int start) {
    Statement choice{.kind = Statement::Kind::kIf, .line = start};
    std::string end = "elif";
    while (end == "elif") {
      choice.expressions.push_back(tuple(false));
      end = enclosed(choice, {"elif", "else", "endif"});
    }
    if (end == "else") enclosed(choice, {"endif"});
    return choice;
  }

  Statement for_statement(int start) {
    Statement loop{.kind = Statement::Kind::kFor, .line = start};
    loop.expressions.push_back(target(false));
    if (!skip_name("in")) unexpected("'in'");
    loop.expressions.push_back(tuple(false));
    loop.expressions.push_back(skip_name("if") ? expression() : nullptr);
    if (at_name("recursive")) fail("recursive loops are not supported");
    ++num_loops_;
    const std::string end = enclosed(loop, {"else", "endfor"});
    --num_loops_;
    if (end == "else") enclosed(loop, {"endfor"});
    return loop;
  }

  Statement set_statement(int start) {
    Statement set{.kind = Statement::Kind::kSet, .line = start};
    set.expressions.push_back(target(true));
    if (skip_operator("=")) {
      set.expressions.push_back(tuple());
      return set;
    }
    set.kind = Statement::Kind::kSetBlock;
    set.expressions.push_back(at_operator("|") ? filters(nullptr, false) : nullptr);
    enclosed(set, {"endset"});
    return set;
  }

  Statement with_statement(int start) {
    Statement with{.kind = Statement::Kind::kWith, .line = start};
    while (now().kind != Kind::kBlockEnd) {
      if (!with.parameters.empty()) expect_operator(",");
      std::string name = expect_name("a name");
      expect_operator("=");
      with.parameters.emplace_back(std::move(name), expression());
    }
    enclosed(with, {"endwith"});
    return with;
  }

  // After "(".
  void parameters(Statement& owner) {
    while (!skip_operator(")")) {
      if (!owner.parameters.empty()) expect_operator(",");
      std::string name = expect_name("a parameter's name");
      const bool has_default = skip_operator("=");
      if (!has_default && !owner.parameters.empty() && owner.parameters.back().second)
        fail("a parameter without a default follows one with a default");
      owner.parameters.emplace_back(std::move(name), has_default ? expression() : nullptr);
    }
  }

  // What an assignment assigns to: a name, a namespace's attribute, or several.
  ExpressionPtr target(bool with_attribute) {
    const int start = line();
    std::vector<ExpressionPtr> targets;
    bool is_tuple = false;
    do {
      if (at_name("in") || at_operator("=")) break;
      const bool parenthesis = skip_operator("(");
      if (parenthesis) {
        targets.push_back(target(with_attribute));
        expect_operator(")");
        continue;
      }
      ExpressionPtr name = node(Expression::Kind::kName, expect_name("a name to assign to"));
      if (with_attribute && skip_operator(".")) {
        ExpressionPtr attribute = node(Expression::Kind::kAttribute, expect_name("an attribute's name"));
        adopt(*attribute, std::move(name));
        name = std::move(attribute);
      }
      targets.push_back(std::move(name));
    } while (at_operator(",") && (is_tuple = true, ++at_, true));
    if (targets.empty()) unexpected("a name to assign to");
    if (!is_tuple) return std::move(targets[0]);
    ExpressionPtr all = node(Expression::Kind::kTuple, "", start);
    for (ExpressionPtr& one : targets) adopt(*all, std::move(one));
    return all;
  }

  // ---- expressions, the loosest binding first

  ExpressionPtr node(Expression::Kind kind, std::string text = "", int at_line = 0) {
    return std::make_unique<Expression>(
        Expression{.kind = kind, .line = at_line ? at_line : line(), .text = std::move(text)});
  }
  void raise(Expression& parent, const ExpressionPtr& child) {
    if (child) parent.height = std::max(parent.height, child->height + 1);
    if (parent.height > kMaxHeight) fail("the expression is too long");
  }
  void adopt(Expression& parent, ExpressionPtr child) {
    raise(parent, child);
    parent.operands.push_back(std::move(child));
  }
  ExpressionPtr binary(Expression::Kind kind, std::string op, int at_line, ExpressionPtr left,
                       ExpressionPtr right) {
    ExpressionPtr both = node(kind, std::move(op), at_line);
    adopt(*both, std::move(left));
    adopt(*both, std::move(right));
    return both;
  }

  // One expression, or several with commas between them: a tuple.
  ExpressionPtr tuple(bool with_condition = true, bool in_parentheses = false) {
    const int start = line();
    std::vector<ExpressionPtr> items;
    bool is_tuple = false;
    const auto at_end = [&] {
      return now().kind == Kind::kOutputEnd || now().kind == Kind::kBlockEnd || at_operator(")") ||
             at_name("recursive");
    };
    while (!at_end()) {
      items.push_back(with_condition ? expression() : disjunction());
      if (!skip_operator(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items[0]);
    if (!is_tuple && !in_parentheses) unexpected("an expression");
    ExpressionPtr all = node(Expression::Kind::kTuple, "", start);
    for (ExpressionPtr& item : items) adopt(*all, std::move(item));
    return all;
  }

  ExpressionPtr expression() {
    const Deeper deeper(*this);
    ExpressionPtr value = disjunction();
    while (at_name("if")) {
      ExpressionPtr conditional = node(Expression::Kind::kConditional);
      ++at_;
      adopt(*conditional, std::move(value));
      adopt(*conditional, disjunction());
      adopt(*conditional, skip_name("else") ? expression() : nullptr);
      value = std::move(conditional);
    }
    return value;
  }

  ExpressionPtr disjunction() {
    ExpressionPtr left = conjunction();
    for (int start = line(); skip_name("or"); start = line())
      left = binary(Expression::Kind::kOr, "or", start, std::move(left), conjunction());
    return left;
  }

  ExpressionPtr conjunction() {
    ExpressionPtr left = negation();
    for (int start = line(); skip_name("and"); start = line())
      left = binary(Expression::Kind::kAnd, "and", start, std::move(left), negation());
    return left;
  }

  ExpressionPtr negation() {
    if (!at_name("not")) return comparison();
    const Deeper deeper(*this);
    ExpressionPtr negated = node(Expression::Kind::kNot);
    ++at_;
    adopt(*negated, negation());
    return negated;
  }

  // The comparison operator at hand, taken; or nothing.
  std::optional<std::string> comparison_operator() {
    if (now().kind == Kind::kOperator)
      for (std::string_view op : {"==", "!=", "<", "<=", ">", ">="})
        if (skip_operator(op)) return std::string(op);
    if (skip_name("in")) return "in";
    if (at_name("not") && ahead().kind == Kind::kName && ahead().text == "in") {
      at_ += 2;
      return "not in";
    }
    return std::nullopt;
  }

  ExpressionPtr comparison() {
    const int start = line();
    ExpressionPtr left = sum();
    std::optional<std::string> op = comparison_operator();
    if (!op) return left;
    ExpressionPtr chain = node(Expression::Kind::kCompare, "", start);
    adopt(*chain, std::move(left));
    for (; op; op = comparison_operator()) {
      chain->operators.push_back(*op);
      adopt(*chain, sum());
    }
    return chain;
  }

  using Operand = ExpressionPtr (Parser::*)();
  ExpressionPtr chain(Names operators, Operand operand) {
    ExpressionPtr left = (this->*operand)();
    while (now().kind == Kind::kOperator && std::ranges::find(operators, now().text) != operators.end()) {
      const Token op = take();
      left = binary(Expression::Kind::kArithmetic, op.text, op.line, std::move(left), (this->*operand)());
    }
    return left;
  }
  ExpressionPtr sum() { return chain({"+", "-"}, &Parser::concatenation); }
  ExpressionPtr product() { return chain({"*", "/", "//", "%"}, &Parser::power); }
  ExpressionPtr power() { return chain({"**"}, &Parser::filtered); }
  ExpressionPtr filtered() { return unary(true); }

  ExpressionPtr concatenation() {
    ExpressionPtr first = product();
    if (!at_operator("~")) return first;
    ExpressionPtr all = node(Expression::Kind::kConcatenate);
    adopt(*all, std::move(first));
    while (skip_operator("~")) adopt(*all, product());
    return all;
  }

  ExpressionPtr unary(bool with_filters) {
    const Deeper deeper(*this);
    ExpressionPtr value;
    if (at_operator("-") || at_operator("+")) {
      value = node(at_operator("-") ? Expression::Kind::kNegative : Expression::Kind::kPositive);
      ++at_;
      adopt(*value, unary(false));
    } else {
      value = primary();
    }
    value = postfixes(std::move(value));
    while (with_filters) {
      if (at_operator("|"))
        value = filters(std::move(value), false);
      else if (at_name("is"))
        value = test(std::move(value));
      else if (at_operator("("))
        value = call(std::move(value));
      else
        break;
    }
    return value;
  }

  ExpressionPtr constant(Value value) {
    ExpressionPtr leaf = node(Expression::Kind::kConstant);
    leaf->value = std::move(value);
    return leaf;
  }

  ExpressionPtr primary() {
    const Token token = now();
    if (token.kind == Kind::kName) {
      ExpressionPtr leaf = token.text == "true" || token.text == "True"     ? constant(true)
                           : token.text == "false" || token.text == "False" ? constant(false)
                           : token.text == "none" || token.text == "None"
                               ? constant(Value())
                               : node(Expression::Kind::kName, token.text);
      ++at_;
      return leaf;
    }
    if (token.kind == Kind::kString) {
      ExpressionPtr leaf = constant(Value());
      std::string text;
      while (now().kind == Kind::kString) text += take().text;
      leaf->value = std::move(text);
      return leaf;
    }
    if (token.kind == Kind::kInteger || token.kind == Kind::kFloat) {
      ExpressionPtr leaf = constant(number(token));
      ++at_;
      return leaf;
    }
    if (skip_operator("(")) {
      ExpressionPtr inner = tuple(true, true);
      expect_operator(")");
      return inner;
    }
    if (at_operator("[")) return list();
    if (at_operator("{")) return dictionary();
    unexpected("an expression");
  }

  Value number(const Token& token) {
    try {
      if (token.kind == Kind::kFloat) return std::stod(token.text);
      return Value(std::int64_t{std::stoll(token.text)});
    } catch (const std::out_of_range&) {
      fail("the number " + token.text + " is out of range");
    }
  }

  ExpressionPtr list() {
    ExpressionPtr all = node(Expression::Kind::kList);
    ++at_;
    while (!skip_operator("]")) {
      if (!all->operands.empty()) expect_operator(",");
      if (skip_operator("]")) break;
      adopt(*all, expression());
    }
    return all;
  }

  ExpressionPtr dictionary() {
    ExpressionPtr all = node(Expression::Kind::kDict);
    ++at_;
    while (!skip_operator("}")) {
      if (!all->operands.empty()) expect_operator(",");
      if (skip_operator("}")) break;
      adopt(*all, expression());
      expect_operator(":");
      adopt(*all, expression());
    }
    return all;
  }

  ExpressionPtr postfixes(ExpressionPtr value) {
    for (;;) {
      if (at_operator("."))
        value = attribute(std::move(value));
      else if (at_operator("["))
        value = subscript(std::move(value));
      else if (at_operator("("))
        value = call(std::move(value));
      else
        return value;
    }
  }

  ExpressionPtr attribute(ExpressionPtr value) {
    const int start = take().line;
    if (now().kind == Kind::kInteger) {
      ExpressionPtr index = constant(number(now()));
      ++at_;
      return binary(Expression::Kind::kItem, "", start, std::move(value), std::move(index));
    }
    ExpressionPtr access = node(Expression::Kind::kAttribute, expect_name("a name or number"), start);
    adopt(*access, std::move(value));
    return access;
  }

  ExpressionPtr subscript(ExpressionPtr value) {
    const int start = take().line;
    const auto at_end = [&] { return at_operator("]") || at_operator(":"); };
    ExpressionPtr first = at_operator(":") ? nullptr : expression();
    if (skip_operator("]"))
      return binary(Expression::Kind::kItem, "", start, std::move(value), std::move(first));
    ExpressionPtr slice = node(Expression::Kind::kSlice, "", start);
    adopt(*slice, std::move(value));
    adopt(*slice, std::move(first));
    for (int part = 1; part < 3; ++part)
      adopt(*slice, skip_operator(":") && !at_end() ? expression() : nullptr);
    expect_operator("]");
    return slice;
  }

  // "(...)" of a call, a filter or a test.
  void arguments(Expression& owner) {
    expect_operator("(");
    bool first = true;
    while (!skip_operator(")")) {
      if (!first) expect_operator(",");
      first = false;
      if (skip_operator(")")) break;
      if (skip_operator("*")) {
        raise(owner, owner.more_positional = expression());
      } else if (skip_operator("**")) {
        raise(owner, owner.more_named = expression());
      } else if (now().kind == Kind::kName && ahead().kind == Kind::kOperator && ahead().text == "=") {
        std::string name = take().text;
        ++at_;
        ExpressionPtr value = expression();
        raise(owner, value);
        owner.named.emplace_back(std::move(name), std::move(value));
      } else {
        if (!owner.named.empty() || owner.more_positional || owner.more_named)
          fail("a positional argument follows others");
        adopt(owner, expression());
      }
    }
  }

  ExpressionPtr call(ExpressionPtr callee) {
    ExpressionPtr made = node(Expression::Kind::kCall);
    adopt(*made, std::move(callee));
    arguments(*made);
    return made;
  }

  // "| name(...) | ..." or, `bare`, without the first "|".
  ExpressionPtr filters(ExpressionPtr value, bool bare) {
    for (; bare || at_operator("|"); bare = false) {
      if (!bare) ++at_;
      ExpressionPtr filter = node(Expression::Kind::kFilter, "");
      filter->text = expect_name("a filter's name");
      adopt(*filter, std::move(value));
      if (at_operator("(")) arguments(*filter);
      value = std::move(filter);
    }
    return value;
  }

  ExpressionPtr test(ExpressionPtr value) {
    const int start = take().line;
    const bool negated = skip_name("not");
    ExpressionPtr is = node(Expression::Kind::kTest, expect_name("a test's name"), start);
    adopt(*is, std::move(value));
    const auto begins_operand = [&] {
      switch (now().kind) {
        case Kind::kName:
          return !at_name("else") && !at_name("or") && !at_name("and") && !at_name("is") && !at_name("if");
        case Kind::kString:
        case Kind::kInteger:
        case Kind::kFloat:
          return true;
        default:
          return at_operator("[") || at_operator("{");
      }
    };
    if (at_operator("("))
      arguments(*is);
    else if (begins_operand())
      adopt(*is, postfixes(primary()));
    if (!negated) return is;
    ExpressionPtr inverse = node(Expression::Kind::kNot, "", start);
    adopt(*inverse, std::move(is));
    return inverse;
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int num_loops_ = 0;
};

}  // namespace

Block parse(std::string_view source) { return Parser(source).template_body(); }

}  // namespace redline::jinja
