// The subcommands of `redline`: each file declares its flags and returns what runs it.
#pragma once

#include <functional>

#include "tools/redline/flags.h"

namespace redline {

// The exit statuses of every command.
inline constexpr int kExitDone = 0;
inline constexpr int kExitError = 1;          // its reason is the last line on stderr
inline constexpr int kExitUsage = 2;          // wrong flags or arguments
inline constexpr int kExitInterrupted = 130;  // Ctrl-C

/// Runs a command whose flags were parsed; returns the exit status. Throws UsageError, ModelFileError and
/// other exceptions whose what() is one line for the user.
using Action = std::function<int()>;

Action declare_tokenize(Flags& flags);

struct Command {
  const char* name;
  const char* description;
  Action (*declare)(Flags& flags);
};

inline constexpr Command kCommands[] = {
    {"tokenize", "Text to token ids and back", declare_tokenize},
};

}  // namespace redline
