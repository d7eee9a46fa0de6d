// The command line as a whole: its subcommands, errors and exit statuses.
#pragma once

#include <string>
#include <vector>

#include "tools/redline/flags.h"

namespace redline {

/// Parses, runs the command, and turns every exception into one line on stderr and an exit status.
int run_program(int argc, const char* const* argv);

struct CommandDescription {
  std::string name, description;
  std::vector<FlagDescription> flags;

  /// "bench serve"
  bool is_below_another() const { return name.find(' ') != std::string::npos; }
};
/// What tools/reference writes documents and completions from.
std::vector<CommandDescription> describe_commands();

}  // namespace redline
