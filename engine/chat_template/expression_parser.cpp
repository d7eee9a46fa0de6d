#include "engine/chat_template/expression_parser.h"

namespace redline::jinja {

ExpressionPtr ExpressionParser::node(Expression::Kind kind, std::string text, int at_line) {
  return std::make_unique<Expression>(
      Expression{.kind = kind, .line = at_line ? at_line : line(), .text = std::move(text)});
}

void ExpressionParser::raise(Expression& parent, const ExpressionPtr& child) {
  if (child) parent.height = std::max(parent.height, child->height + 1);
  if (parent.height > kMaxHeight) fail("the expression is too long");
}

void ExpressionParser::adopt(Expression& parent, ExpressionPtr child) {
  raise(parent, child);
  parent.operands.push_back(std::move(child));
}

ExpressionPtr ExpressionParser::binary(Expression::Kind kind, std::string op, int at_line, ExpressionPtr left,
                                       ExpressionPtr right) {
  ExpressionPtr both = node(kind, std::move(op), at_line);
  adopt(*both, std::move(left));
  adopt(*both, std::move(right));
  return both;
}

ExpressionPtr ExpressionParser::tuple(bool with_condition, bool in_parentheses) {
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

ExpressionPtr ExpressionParser::expression() {
  const Deeper deeper(*this);
  int start = line();
  ExpressionPtr value = disjunction();
  for (; skip_name("if"); start = line()) {
    ExpressionPtr conditional = node(Expression::Kind::kConditional, "", start);
    adopt(*conditional, std::move(value));
    adopt(*conditional, disjunction());
    adopt(*conditional, skip_name("else") ? expression() : nullptr);
    value = std::move(conditional);
  }
  return value;
}

ExpressionPtr ExpressionParser::disjunction() {
  int start = line();
  ExpressionPtr left = conjunction();
  for (; skip_name("or"); start = line())
    left = binary(Expression::Kind::kOr, "or", start, std::move(left), conjunction());
  return left;
}

ExpressionPtr ExpressionParser::conjunction() {
  int start = line();
  ExpressionPtr left = negation();
  for (; skip_name("and"); start = line())
    left = binary(Expression::Kind::kAnd, "and", start, std::move(left), negation());
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  if (!at_name("not")) return comparison();
  const Deeper deeper(*this);
  ExpressionPtr negated = node(Expression::Kind::kNot);
  ++at_;
  adopt(*negated, negation());
  return negated;
}

std::optional<std::string> ExpressionParser::comparison_operator() {
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

ExpressionPtr ExpressionParser::comparison() {
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

ExpressionPtr ExpressionParser::chain(Names operators, Operand operand) {
  int start = line();
  ExpressionPtr left = (this->*operand)();
  for (; now().kind == Kind::kOperator && std::ranges::find(operators, now().text) != operators.end();
       start = line()) {
    std::string op = take().text;
    left = binary(Expression::Kind::kArithmetic, std::move(op), start, std::move(left), (this->*operand)());
  }
  return left;
}

ExpressionPtr ExpressionParser::sum() { return chain({"+", "-"}, &ExpressionParser::concatenation); }

ExpressionPtr ExpressionParser::product() { return chain({"*", "/", "//", "%"}, &ExpressionParser::power); }

ExpressionPtr ExpressionParser::power() { return chain({"**"}, &ExpressionParser::filtered); }

ExpressionPtr ExpressionParser::filtered() { return unary(true); }

ExpressionPtr ExpressionParser::concatenation() {
  const int start = line();
  ExpressionPtr first = product();
  if (!at_operator("~")) return first;
  ExpressionPtr all = node(Expression::Kind::kConcatenate, "", start);
  adopt(*all, std::move(first));
  while (skip_operator("~")) adopt(*all, product());
  return all;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
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

ExpressionPtr ExpressionParser::constant(Value value) {
  ExpressionPtr leaf = node(Expression::Kind::kConstant);
  leaf->value = std::move(value);
  return leaf;
}

ExpressionPtr ExpressionParser::primary() {
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

Value ExpressionParser::number(const Token& token) {
  try {
    if (token.kind == Kind::kFloat) return std::stod(token.text);
    return Value(std::int64_t{std::stoll(token.text)});
  } catch (const std::out_of_range&) {
    fail("the number " + token.text + " is out of range");
  }
}

ExpressionPtr ExpressionParser::list() {
  ExpressionPtr all = node(Expression::Kind::kList);
  ++at_;
  while (!skip_operator("]")) {
    if (!all->operands.empty()) expect_operator(",");
    if (skip_operator("]")) break;
    adopt(*all, expression());
  }
  return all;
}

ExpressionPtr ExpressionParser::dictionary() {
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

ExpressionPtr ExpressionParser::postfixes(ExpressionPtr value) {
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

ExpressionPtr ExpressionParser::attribute(ExpressionPtr value) {
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

ExpressionPtr ExpressionParser::subscript(ExpressionPtr value) {
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

void ExpressionParser::arguments(Expression& owner) {
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

ExpressionPtr ExpressionParser::call(ExpressionPtr callee) {
  ExpressionPtr made = node(Expression::Kind::kCall);
  adopt(*made, std::move(callee));
  arguments(*made);
  return made;
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr value, bool bare) {
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

ExpressionPtr ExpressionParser::test(ExpressionPtr value) {
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

}  // namespace redline::jinja
