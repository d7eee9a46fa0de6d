#include "engine/chat_template/parser.h"

#include "engine/chat_template/expression_parser.h"

namespace redline::jinja {
namespace {

class Parser : ExpressionParser {
 public:
  explicit Parser(std::string_view source) : ExpressionParser(source) {}

  Block template_body() { return block({}); }

 private:
  // Up to a block tag with one of the names `ends`, whose name is the current token then.
  Block block(Names ends) {
    const Deeper deeper(*this);
    Block body;
    while (now().kind != Kind::kEnd) {
      const int start = line();
      if (now().kind == Kind::kData) {
        body.push_back({.kind = Statement::Kind::kData, .line = start, .text = take().text});
      } else if (now().kind == Kind::kOutputBegin) {
        take();
        Statement output{.kind = Statement::Kind::kOutput, .line = start};
        output.expressions.push_back(tuple());
        output.line = output.expressions[0]->line;
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
      const int line_of_guard = line();
      choice.expressions.push_back(tuple(false));
      choice.expressions.back()->line = line_of_guard;
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
    const Deeper deeper(*this);
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
    } while (skip_operator(",") && (is_tuple = true));
    if (targets.empty()) unexpected("a name to assign to");
    if (!is_tuple) return std::move(targets[0]);
    ExpressionPtr all = node(Expression::Kind::kTuple, "", start);
    for (ExpressionPtr& one : targets) adopt(*all, std::move(one));
    return all;
  }

  int num_loops_ = 0;
};

}  // namespace

Block parse(std::string_view source) { return Parser(source).template_body(); }

}  // namespace redline::jinja
