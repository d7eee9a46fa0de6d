// CHECK: a programmer's mistake ends the program, naming the condition and the place. Never fires on user
// input: a user's mistake is a value with a message, a bad file a ModelFileError (engine/model_file_error.h).
#pragma once

namespace redline {

/// Prints `file:line: CHECK failed: condition: message` to stderr and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const char* message);

}  // namespace redline

#define REDLINE_CHECK(condition, message) \
  ((condition) ? static_cast<void>(0) : ::redline::check_failed(__FILE__, __LINE__, #condition, message))
