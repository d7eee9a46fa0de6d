// A template's syntax tree.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/chat_template/value.h"

namespace redline::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind : std::uint8_t {
    kConstant,     // value
    kName,         // text
    kList,         // operands
    kTuple,        // operands
    kDict,         // operands: key, value, key, value, ...
    kAttribute,    // operands[0].text; in an assignment a namespace's
    kItem,         // operands[0][operands[1]]
    kSlice,        // operands[0][1:2:3], those absent null
    kCall,         // operands[0](operands[1..], named)
    kFilter,       // operands[0] | text(operands[1..], named); operands[0] null in a filter block
    kTest,         // operands[0] is text(operands[1..], named)
    kNot,          // operands[0]
    kNegative,     // operands[0]
    kPositive,     // operands[0]
    kAnd,          // operands[0], [1]
    kOr,           // operands[0], [1]
    kArithmetic,   // operands[0] text operands[1]
    kCompare,      // operands[0] operators[0] operands[1] operators[1] operands[2] ...
    kConcatenate,  // operands
    kConditional,  // operands[0] if operands[1] else operands[2] (may be null)
  };
  Kind kind;
  int line;  // jinja2's: of a chain of operators, where it starts
  std::string text = {};
  Value value = {};
  std::vector<ExpressionPtr> operands = {};
  std::vector<std::pair<std::string, ExpressionPtr>> named = {};
  ExpressionPtr more_positional = {};  // *args
  ExpressionPtr more_named = {};       // **kwargs
  std::vector<std::string> operators = {};
  int height = 1;
};

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind : std::uint8_t {
    kData,         // text
    kOutput,       // expressions[0]
    kIf,           // expressions[i] guards blocks[i]; one block more: else
    kFor,          // for expressions[0] in [1] if [2] (may be null): blocks[0], else blocks[1]
    kSet,          // expressions[0] = [1]
    kSetBlock,     // expressions[0] = blocks[0], through the filters expressions[1] (may be null)
    kMacro,        // text, parameters; blocks[0]
    kCallBlock,    // expressions[0] is called with `caller`: parameters, blocks[0]
    kFilterBlock,  // blocks[0] through the filters expressions[0]
    kWith,         // parameters set in a scope of their own around blocks[0]
    kBreak,
    kContinue
  };
  Kind kind;
  int line;  // that errors name: of the tag, or of an output's expression
  std::string text = {};
  std::vector<ExpressionPtr> expressions = {};
  std::vector<Block> blocks = {};
  std::vector<std::pair<std::string, ExpressionPtr>> parameters = {};  // with defaults, or null
};

}  // namespace redline::jinja
