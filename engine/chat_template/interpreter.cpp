#include "engine/chat_template/interpreter.h"

#include <algorithm>
#include <utility>

#include "engine/chat_template/builtins.h"
#include "engine/chat_template/operators.h"

namespace redline::jinja {
namespace {

// Puts a variable back when a block is left, also by an exception.
template <typename T>
class Restore {
 public:
  Restore(T& variable, T value) : variable_(variable), saved_(std::exchange(variable, std::move(value))) {}
  ~Restore() { variable_ = std::move(saved_); }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  T& variable_;
  T saved_;
};

}  // namespace

std::string Interpreter::run(const Block& body, Named variables) {
  const auto globals = std::make_shared<Scope>(Scope{global_functions(*this), nullptr});
  scope_ = std::make_shared<Scope>(Scope{std::move(variables), globals});
  std::string text;
  out_ = &text;
  execute(body);
  return text;
}

void Interpreter::write(std::string_view text) {
  budget.spend_bytes(text.size());
  *out_ += text;
}

// ---- statements

Interpreter::Flow Interpreter::execute(const Block& block) {
  const Nesting nesting(budget);
  for (const Statement& statement : block) {
    line_ = statement.line;
    budget.spend_steps(1);
    if (const Flow flow = execute(statement); flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_in_scope(const Block& block) {
  const Restore scope(scope_, std::make_shared<Scope>(Scope{{}, scope_}));
  return execute(block);
}

std::string Interpreter::captured(const Block& block) {
  std::string text;
  const Restore out(out_, &text);
  execute_in_scope(block);
  return text;
}

Interpreter::Flow Interpreter::execute(const Statement& s) {
  switch (s.kind) {
    case Statement::Kind::kData:
      write(s.text);
      break;
    case Statement::Kind::kOutput:
      write(to_text(evaluate(*s.expressions[0]), budget));
      break;
    case Statement::Kind::kIf: {
      std::size_t i = 0;
      for (; i < s.expressions.size(); ++i) {
        if (i > 0) line_ = s.expressions[i]->line;
        if (evaluate(*s.expressions[i]).truth()) break;
      }
      return i < s.blocks.size() ? execute(s.blocks[i]) : Flow::kNext;
    }
    case Statement::Kind::kFor:
      return loop(s);
    case Statement::Kind::kSet:
      assign(*s.expressions[0], evaluate(*s.expressions[1]));
      break;
    case Statement::Kind::kSetBlock:
    case Statement::Kind::kFilterBlock: {
      const bool sets = s.kind == Statement::Kind::kSetBlock;
      Value text = captured(s.blocks[0]);
      line_ = s.line;
      if (const Expression* filters = s.expressions[sets ? 1 : 0].get()) {
        const Restore<const Value*> filtered(filtered_, &text);
        Value result = evaluate(*filters);
        text = std::move(result);
      }
      if (sets)
        assign(*s.expressions[0], std::move(text));
      else
        write(to_text(text, budget));
      break;
    }
    case Statement::Kind::kMacro:
      define(s.text, macro(s, "macro"));
      break;
    case Statement::Kind::kCallBlock: {
      Value caller = macro(s, "caller");
      write(to_text(call(*s.expressions[0], &caller), budget));
      break;
    }
    case Statement::Kind::kWith: {
      Named names;
      for (const auto& [name, value] : s.parameters) names.emplace_back(name, evaluate(*value));
      const Restore scope(scope_, std::make_shared<Scope>(Scope{std::move(names), scope_}));
      return execute(s.blocks[0]);
    }
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::loop(const Statement& s) {
  const Expression& target = *s.expressions[0];
  Values items = iterate(evaluate(*s.expressions[1]), budget);
  if (const Expression* condition = s.expressions[2].get()) {
    const Restore scope(scope_, std::make_shared<Scope>(Scope{{}, scope_}));
    line_ = condition->line;
    std::erase_if(items, [&](const Value& item) {
      assign(target, item);
      return !evaluate(*condition).truth();
    });
  }
  if (items.empty()) return s.blocks.size() > 1 ? execute_in_scope(s.blocks[1]) : Flow::kNext;
  const Value list = Value::list(std::move(items));
  const auto state = std::make_shared<Loop>();
  state->items = std::get<std::shared_ptr<const Sequence>>(list.data());
  for (const Value& item : state->items->items) {
    const Restore scope(scope_, std::make_shared<Scope>(Scope{{}, scope_}));
    define("loop", state);
    line_ = s.line;
    assign(target, item);
    if (execute(s.blocks[0]) == Flow::kBreak) break;
    ++state->index0;
  }
  return Flow::kNext;
}

void Interpreter::define(std::string_view name, Value value) {
  const auto it = std::ranges::find(scope_->names, name, &Named::value_type::first);
  if (it != scope_->names.end())
    it->second = std::move(value);
  else
    scope_->names.emplace_back(name, std::move(value));
}

void Interpreter::assign(const Expression& target, Value value) {
  if (target.kind == Expression::Kind::kName) return define(target.text, std::move(value));
  if (target.kind == Expression::Kind::kAttribute) {
    Namespace* ns = name(target.operands[0]->text).ns();
    if (!ns) fail("cannot assign an attribute of anything but a namespace");
    ns->insert_or_assign(target.text, std::move(value));
    return;
  }
  const Values items = iterate(value, budget);
  if (items.size() != target.operands.size())
    fail("expected " + std::to_string(target.operands.size()) + " values to unpack, found " +
         std::to_string(items.size()));
  for (std::size_t i = 0; i < items.size(); ++i) assign(*target.operands[i], items[i]);
}

// A function of the tree's part `s`. Its scope is known weakly: a macro lives in the scope that it knows.
Value Interpreter::macro(const Statement& s, const char* what) {
  const std::weak_ptr<Scope> scope = scope_;
  return Function{s.text.empty() ? what : s.text, [this, &s, scope](Arguments& arguments) {
                    const std::shared_ptr<Scope> alive = scope.lock();
                    if (!alive) fail("macro '" + s.text + "' is called outside of the block that defines it");
                    return call_macro(s, alive, arguments);
                  }};
}

Value Interpreter::call_macro(const Statement& s, const std::shared_ptr<Scope>& scope, Arguments& arguments) {
  const Restore inner(scope_, std::make_shared<Scope>(Scope{{}, scope}));
  line_ = s.line;
  for (std::size_t i = 0; i < s.parameters.size(); ++i) {
    const auto& [name, otherwise] = s.parameters[i];
    if (const Value* given = arguments.find(i, name))
      define(name, *given);
    else
      define(name, otherwise ? evaluate(*otherwise) : Undefined{"parameter '" + name + "' was not provided"});
  }
  if (const Value* caller = arguments.find_named("caller")) define("caller", *caller);
  arguments.finish();
  std::string text;
  const Restore out(out_, &text);
  execute(s.blocks[0]);
  return text;
}

// ---- expressions

Value Interpreter::evaluate(const Expression& e) {
  if (e.kind == Expression::Kind::kConstant) return e.value;
  const Nesting nesting(budget);
  budget.spend_steps(1);
  return compute(e);
}

Value Interpreter::operand(const Expression& e, std::size_t i) {
  return e.operands[i] ? evaluate(*e.operands[i]) : Value();
}

Value Interpreter::compute(const Expression& e) {
  using Kind = Expression::Kind;
  switch (e.kind) {
    case Kind::kConstant:
      return e.value;
    case Kind::kName:
      return name(e.text);
    case Kind::kList:
    case Kind::kTuple: {
      Values items;
      for (std::size_t i = 0; i < e.operands.size(); ++i) items.push_back(operand(e, i));
      return e.kind == Kind::kList ? Value::list(std::move(items)) : Value::tuple(std::move(items));
    }
    case Kind::kDict: {
      Entries items;
      for (std::size_t i = 0; i < e.operands.size(); i += 2) {
        Value key = operand(e, i);
        items.emplace_back(std::move(key), operand(e, i + 1));
      }
      return items;
    }
    case Kind::kAttribute:
      return attribute(operand(e, 0), e.text, budget);
    case Kind::kItem: {
      const Value value = operand(e, 0);
      return item(value, operand(e, 1), budget);
    }
    case Kind::kSlice: {
      const Value value = operand(e, 0), start = operand(e, 1), stop = operand(e, 2);
      return slice(value, start, stop, operand(e, 3), budget);
    }
    case Kind::kCall:
      return call(e);
    case Kind::kFilter: {
      if (!find_filter(e.text)) line_ = e.line;  // jinja2 finds that out before it runs anything
      Arguments given = arguments(e, e.text, 1);
      given.values.insert(given.values.begin(), e.operands[0] ? operand(e, 0) : *filtered_);
      return filter(e.text, given);
    }
    case Kind::kTest: {
      if (!find_test(e.text)) line_ = e.line;
      Arguments given = arguments(e, e.text, 1);
      given.values.insert(given.values.begin(), operand(e, 0));
      return test(e.text, given);
    }
    case Kind::kNot:
      return !operand(e, 0).truth();
    case Kind::kNegative:
    case Kind::kPositive: {
      const Value value = operand(e, 0);
      if (!value.is_number())
        value.require_defined(), fail(std::string("no sign for a '") + value.type_name() + "'");
      return arithmetic("*", value, e.kind == Kind::kNegative ? -1 : 1, budget);
    }
    case Kind::kAnd:
    case Kind::kOr: {
      Value left = operand(e, 0);
      return left.truth() == (e.kind == Kind::kOr) ? left : operand(e, 1);
    }
    case Kind::kArithmetic: {
      const Value left = operand(e, 0);
      return arithmetic(e.text, left, operand(e, 1), budget);
    }
    case Kind::kCompare:
      return comparison(e);
    case Kind::kConcatenate:
      return concatenation(e);
    case Kind::kConditional:
      if (operand(e, 1).truth()) return operand(e, 0);
      if (!e.operands[2])
        return Undefined{"the inline if-expression evaluated to false and no else was given"};
      return operand(e, 2);
  }
  return {};
}

Value Interpreter::name(const std::string& name) const {
  for (const Scope* scope = scope_.get(); scope; scope = scope->parent.get()) {
    const auto it = std::ranges::find(scope->names, name, &Named::value_type::first);
    if (it != scope->names.end()) return it->second;
  }
  return Undefined{"'" + name + "' is undefined"};
}

bool Interpreter::comparison(const Expression& e) {
  Value left = operand(e, 0);
  for (std::size_t i = 0; i < e.operators.size(); ++i) {
    Value right = operand(e, i + 1);
    if (!compare(e.operators[i], left, right, budget)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::concatenation(const Expression& e) {
  std::string text;
  for (std::size_t i = 0; i < e.operands.size(); ++i) text += to_text(operand(e, i), budget);
  return text;
}

Arguments Interpreter::arguments(const Expression& e, std::string_view name, std::size_t first) {
  Arguments given(name);
  for (std::size_t i = first; i < e.operands.size(); ++i) given.values.push_back(operand(e, i));
  if (e.more_positional)
    for (Value& value : iterate(evaluate(*e.more_positional), budget))
      given.values.push_back(std::move(value));
  for (const auto& [parameter, value] : e.named) given.named.emplace_back(parameter, evaluate(*value));
  if (e.more_named) {
    const Value more = evaluate(*e.more_named);
    if (!more.map()) fail("** needs a dict");
    for (const auto& [key, value] : more.map()->items) {
      if (!key.text()) fail("keywords must be strings");
      given.named.emplace_back(*key.text(), value);
    }
  }
  return given;
}

Value Interpreter::call(const Expression& e, Value* caller) {
  const Expression& callee = *e.operands[0];
  // A method is called at once, without a function made of it.
  const bool dotted = callee.kind == Expression::Kind::kAttribute;
  const Value self = dotted ? operand(callee, 0) : Value();
  const bool method = dotted && has_method(self, callee.text);
  const Value value = method ? Value() : dotted ? attribute(self, callee.text, budget) : evaluate(callee);
  Arguments given = arguments(e, callee.text, 1);
  if (caller) given.named.emplace_back("caller", std::move(*caller));
  if (method) return call_method(self, given, budget);
  value.require_defined();
  if (!value.function()) fail(std::string("'") + value.type_name() + "' object is not callable");
  const Function function = *value.function();  // a copy: the call may redefine it
  const int line = line_;
  given.name = function.name;
  Value result = function.call(given);
  line_ = line;
  return result;
}

Value Interpreter::filter(const std::string& name, Arguments& given) {
  const Filter found = find_filter(name);
  if (!found) fail("no filter named '" + name + "'");
  given.find(0, "value");  // what stands before the name counts as taken
  return found(*this, given);
}

bool Interpreter::test(const std::string& name, Arguments& given) {
  const Test found = find_test(name);
  if (!found) fail("no test named '" + name + "'");
  given.find(0, "value");  // what stands before the name counts as taken
  return found(*this, given);
}

}  // namespace redline::jinja
