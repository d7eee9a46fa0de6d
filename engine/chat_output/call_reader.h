// Tool calls in the syntaxes that models write them in, read byte by byte.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace redline {

/// How calls stand in the text, once they have begun.
enum class CallSyntax {
  kJson,    // {"name": NAME, "arguments" or "parameters": OBJECT}, or an array of such
  kNamed,   // NAME[ARGS]OBJECT, NAME[CALL_ID]ID[ARGS]OBJECT, NAME OBJECT; or as kJson
  kPython,  // [NAME(KEY=LITERAL, ...), ...]
  kCode     // NAME(KEY=LITERAL, ...) line by line
};

/// Takes the calls that a reader finds.
class CallSink {
 public:
  virtual ~CallSink() = default;
  virtual void begin_call(const std::string& name) = 0;
  /// More of the arguments' JSON text, of the call begun last.
  virtual void add_arguments(std::string_view text) = 0;
};

/// What became of a byte.
enum class CallStep {
  kHeld,   // it may prove not to belong to a call, like those held before it
  kTaken,  // it and those held before it belong to calls that the sink knows
  kDone,   // likewise, and nothing more can follow
  kEnded,  // it does not belong; the calls before it are whole
  kBad     // neither it nor those held before it belong
};

class CallReader {
 public:
  virtual ~CallReader() = default;
  /// The next byte; none after kDone, kEnded and kBad.
  virtual CallStep feed(char c, CallSink& sink) = 0;
};

/// Whether a call of this name can be meant.
using KnowsTool = std::function<bool(const std::string& name)>;

std::unique_ptr<CallReader> make_call_reader(CallSyntax syntax, KnowsTool knows);
std::unique_ptr<CallReader> make_python_call_reader(CallSyntax syntax, KnowsTool knows);

/// `text` = NAME(KEY=LITERAL, ...): the arguments as a JSON object. False where it is something else.
bool python_arguments(std::string_view text, std::string& json);

}  // namespace redline
