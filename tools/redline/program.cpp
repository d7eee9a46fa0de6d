#include "tools/redline/program.h"

#include <CLI/CLI.hpp>
#include <cctype>
#include <cstdio>
#include <deque>
#include <map>
#include <new>
#include <string>

#include "tools/redline/command.h"

namespace redline {
namespace {

constexpr std::size_t kMaxErrorBytes = 580;

/// The last line on stderr: one line, short enough for any log.
void print_error(std::string message) {
  for (char& c : message)
    if (std::iscntrl(static_cast<unsigned char>(c))) c = ' ';
  if (message.size() > kMaxErrorBytes) {
    message.resize(kMaxErrorBytes);
    message += " ...";
  }
  std::fflush(stdout);
  std::fprintf(stderr, "redline: %s\n", message.c_str());
}

/// Wrong usage of `command` (empty: of the program itself).
int usage_error(const std::string& command, const std::string& problem) {
  print_error((command.empty() ? problem : command + ": " + problem) + "; see redline " +
              (command.empty() ? "" : command + " ") + "--help");
  return kExitUsage;
}

/// "bench serve"; empty where none was named.
std::string chosen_command(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  if (commands.empty()) return "";
  const std::string below = chosen_command(*commands.front());
  return commands.front()->get_name() + (below.empty() ? "" : " " + below);
}

/// Runs `action`; what it throws becomes a line and a status.
int run_command(const std::string& name, const Action& action) {
  try {
    const int status = action();
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
    print_error("standard output: could not be written; what was printed is incomplete");
  } catch (const UsageError& error) {
    return usage_error(name, error.what());
  } catch (const std::bad_alloc&) {
    print_error(name + ": out of memory; a smaller --ctx or --dtype needs less");
  } catch (const std::exception& error) {
    print_error(error.what());
  }
  return kExitError;
}

/// CLI11's, without the environment variables that it would list after every flag.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(32); }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() ? "" : " " + option->get_type_name();
  }
};

}  // namespace

int run_program(int argc, const char* const* argv) {
  CLI::App app("LLM inference that says how well it uses the hardware.", "redline");
  app.require_subcommand(1);
  app.set_version_flag("--version", "redline " REDLINE_VERSION);
  app.formatter(std::make_shared<HelpFormatter>());
  std::deque<Flags> flags;
  std::map<std::string, Action> actions;
  for (const Command& command : kCommands) {
    const std::string name = command.name;
    const auto space = name.find(' ');
    CLI::App& parent = space == std::string::npos ? app : *app.get_subcommand(name.substr(0, space));
    flags.emplace_back(*parent.add_subcommand(name.substr(space + 1), command.description));
    actions[name] = command.declare(flags.back());
  }

  std::string chosen;
  try {
    app.parse(argc, argv);
    chosen = chosen_command(app);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const std::runtime_error& error) {  // CLI::ParseError, UsageError
    chosen = chosen_command(app);
    if (!chosen.empty()) return usage_error(chosen, error.what());
    if (argc > 1 && argv[1][0] != '-') return usage_error("", std::string(argv[1]) + ": no such command");
    return usage_error("", error.what());
  }
  return run_command(chosen, actions.at(chosen));
}

std::vector<CommandDescription> describe_commands() {
  std::vector<CommandDescription> descriptions;
  for (const Command& command : kCommands) {
    CLI::App app;
    Flags flags(app);
    command.declare(flags);
    descriptions.push_back({command.name, command.description, flags.descriptions()});
  }
  return descriptions;
}

}  // namespace redline
