// Writes what is known of the command line from the flags that the commands declare: the manual page, shell
// completions, and docs/cli.md. Built and run with the program; not installed.
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tools/redline/program.h"

namespace redline {
namespace {

constexpr const char* kDescription =
    "LLM inference that says how well it uses the hardware. MODEL is a .gguf file, a directory with "
    "safetensors, "
    "or a repository id in the local Hugging Face cache. Text goes to standard output; progress, reports and "
    "errors to standard error. Sizes are numbers, or numbers with K, M, G (powers of 1000) or KiB, MiB, GiB "
    "(powers of 1024). Every flag is also an environment variable: --top-k is REDLINE_TOP_K; what the "
    "command "
    "line says wins.";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

/// "-p,--prompt" as {"-p", "--prompt"}.
std::vector<std::string> spellings(const FlagDescription& flag) {
  const auto comma = flag.names.find(',');
  if (comma == std::string::npos) return {flag.names};
  return {flag.names.substr(0, comma), flag.names.substr(comma + 1)};
}

std::string synopsis(const CommandDescription& command) {
  std::string text = "redline " + command.name + " [FLAG...]";
  for (const FlagDescription& flag : command.flags)
    if (flag.is_argument()) text += flag.required ? " " + flag.names : " [" + flag.names + "]";
  return text;
}

std::string full_help(const FlagDescription& flag) {
  return flag.help + (flag.repeatable ? (flag.several_at_once ? " (several)" : " (repeatable)") : "");
}

/// A command with "help" among its flags, as the parser adds it.
std::vector<CommandDescription> commands_with_help() {
  std::vector<CommandDescription> commands = describe_commands();
  for (CommandDescription& command : commands) {
    FlagDescription help;
    help.names = "-h,--help";
    help.help = "Print the flags and exit";
    command.flags.push_back(help);
  }
  return commands;
}

// --- man ---

std::string roff(std::string text) {
  text = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
  return text.front() == '.' || text.front() == '\'' ? "\\&" + text : text;
}

void print_man() {
  std::printf(
      ".TH REDLINE 1 \"\" \"redline %s\" \"User Commands\"\n.SH NAME\nredline \\- run language models and "
      "measure how well they use the hardware\n.SH SYNOPSIS\n",
      REDLINE_VERSION);
  const auto commands = commands_with_help();
  for (const CommandDescription& command : commands)
    std::printf("%s\n.br\n", roff(synopsis(command)).c_str());
  std::printf(".SH DESCRIPTION\n%s\n.SH COMMANDS\n", roff(kDescription).c_str());
  for (const CommandDescription& command : commands) {
    std::printf(".SS \"redline %s\"\n%s.\n", command.name.c_str(), roff(command.description).c_str());
    for (const FlagDescription& flag : command.flags)
      std::printf(".TP\n\\fB%s\\fR%s%s%s\n%s.\n", roff(replaced(flag.names, ",", ", ")).c_str(),
                  flag.value.empty() || flag.is_argument() ? "" : " \\fI",
                  flag.is_argument() ? "" : roff(flag.value + " ").substr(0, flag.value.size()).c_str(),
                  flag.value.empty() || flag.is_argument() ? "" : "\\fR", roff(full_help(flag)).c_str());
  }
  std::printf(
      "%s",
      ".SH EXIT STATUS\n"
      ".TP\n.B 0\nDone.\n"
      ".TP\n.B 1\nAn error; the last line on standard error says which file or value, and what would help.\n"
      ".TP\n.B 2\nWrong usage.\n"
      ".TP\n.B 130\nCtrl\\-C. It ends a generation cleanly: what was generated and its report are printed.\n"
      ".SH EXAMPLES\n.nf\n"
      "redline run model.gguf \\-p \"Why is the sky blue?\"\n"
      "redline run model.gguf \\-f question.txt \\-n 200 \\-\\-json | jq .utilization\n"
      "redline bench model.gguf \\-p 512 \\-n 128 \\-d 0,4096\n"
      "redline inspect model.gguf \\-\\-on h100\n"
      ".fi\n");
}

// --- shells ---

void print_bash() {
  std::string names, cases;
  for (const CommandDescription& command : commands_with_help()) {
    if (!command.is_below_another()) names += (names.empty() ? "" : " ") + command.name;
    std::string flags;
    for (const FlagDescription& flag : command.flags)
      if (!flag.is_argument())
        for (const std::string& spelling : spellings(flag)) flags += (flags.empty() ? "" : " ") + spelling;
    // Of two words: before the command that it stands below.
    const std::string each = "    '" + command.name + " '*) flags='" + flags + "' ;;\n";
    cases = command.is_below_another() ? each + cases : cases + each;
  }
  std::printf(
      "# bash completion for redline\n"
      "_redline() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} flags=\n"
      "  if [[ $COMP_CWORD -eq 1 ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W '%s --help --version' -- \"$word\")\n"
      "    return\n"
      "  fi\n"
      "  case \"${COMP_WORDS[*]:1} \" in\n%s  esac\n"
      "  [[ $word != -* ]] || mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")\n"
      "}\n"
      "complete -o default -F _redline redline\n",
      names.c_str(), cases.c_str());
}

/// For zsh's _arguments: what its syntax gives a meaning is escaped, within single quotes.
std::string zsh_text(std::string text) {
  for (const char* special : {"\\", "[", "]", ":"})
    text = replaced(text, special, std::string("\\") + special);
  return replaced(text, "'", "'\\''");
}

void print_zsh() {
  std::printf("#compdef redline\n\n_redline() {\n  local -a commands=(\n");
  const auto commands = commands_with_help();
  std::string below;
  for (const CommandDescription& command : commands) {
    if (command.is_below_another())
      below += (below.empty() ? "'" : " '") + command.name + "'";
    else
      std::printf("    '%s:%s'\n", command.name.c_str(), zsh_text(command.description).c_str());
  }
  std::printf(
      "  )\n  local -a below=(%s)\n"
      "  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
      "  local command=${words[2]}\n  shift words\n  (( CURRENT-- ))\n"
      "  if (( CURRENT > 2 && ${below[(Ie)$command ${words[2]}]} )); then\n"
      "    command=\"$command ${words[2]}\"\n    shift words\n    (( CURRENT-- ))\n  fi\n  case $command "
      "in\n",
      below.c_str());
  for (const CommandDescription& command : commands) {
    std::printf("    '%s') _arguments", command.name.c_str());
    for (const FlagDescription& flag : command.flags) {
      if (flag.is_argument()) {
        std::printf(" \\\n      ':%s:_files'", flag.names.c_str());
        continue;
      }
      for (const std::string& spelling : spellings(flag))
        std::printf(" \\\n      '%s%s[%s]%s'", flag.repeatable ? "*" : "", spelling.c_str(),
                    zsh_text(flag.help).c_str(),
                    flag.value.empty() ? "" : (":" + zsh_text(flag.value) + ":_files").c_str());
    }
    std::printf(" ;;\n");
  }
  std::printf("  esac\n}\n\n_redline \"$@\"\n");
}

void print_fish() {
  const auto quoted = [](const std::string& text) {
    return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
  };
  std::printf("# fish completion for redline\n");
  for (const CommandDescription& command : commands_with_help()) {
    const auto space = command.name.find(' ');
    const std::string condition = space == std::string::npos
                                      ? "'__fish_seen_subcommand_from " + command.name + "'"
                                      : "'__fish_seen_subcommand_from " + command.name.substr(0, space) +
                                            "; and __fish_seen_subcommand_from " +
                                            command.name.substr(space + 1) + "'";
    std::printf("complete -c redline -n %s -f -a %s -d %s\n",
                space == std::string::npos
                    ? "__fish_use_subcommand"
                    : ("'__fish_seen_subcommand_from " + command.name.substr(0, space) + "'").c_str(),
                command.name.substr(space + 1).c_str(), quoted(command.description).c_str());
    for (const FlagDescription& flag : command.flags) {
      if (flag.is_argument()) continue;
      std::printf("complete -c redline -n %s", condition.c_str());
      for (const std::string& spelling : spellings(flag))
        std::printf(spelling.starts_with("--") ? " -l %s" : " -s %s",
                    spelling.c_str() + spelling.find_first_not_of('-'));
      std::printf("%s -d %s\n", flag.value.empty() ? "" : " -r", quoted(flag.help).c_str());
    }
  }
}

// --- docs/cli.md ---

void print_markdown() {
  const auto cell = [](const std::string& text) { return replaced(text, "|", "\\|"); };
  std::printf(
      "# The command line\n\nWritten by `redline_reference markdown` from the flags that the commands "
      "declare; a test compares.\n\n%s\n\nExit status: 0 done; 1 an error, its reason the last line on "
      "standard error; 2 wrong usage; 130 Ctrl-C.\n",
      kDescription);
  for (const CommandDescription& command : describe_commands()) {
    std::printf("\n## redline %s\n\n%s. `%s`\n\n| flag | environment | meaning |\n| --- | --- | --- |\n",
                command.name.c_str(), command.description.c_str(), synopsis(command).c_str());
    for (const FlagDescription& flag : command.flags) {
      std::string names = replaced(flag.names, ",", ", ");
      if (!flag.value.empty() && !flag.is_argument()) names += " " + flag.value;
      std::printf("| `%s` | %s | %s |\n", names.c_str(),
                  flag.is_argument() ? "" : ("`" + flag.environment_name() + "`").c_str(),
                  cell(full_help(flag)).c_str());
    }
  }
}

}  // namespace
}  // namespace redline

int main(int argc, char** argv) {
  const std::string_view form = argc == 2 ? argv[1] : "";
  if (form == "man")
    redline::print_man();
  else if (form == "bash")
    redline::print_bash();
  else if (form == "zsh")
    redline::print_zsh();
  else if (form == "fish")
    redline::print_fish();
  else if (form == "markdown")
    redline::print_markdown();
  else {
    std::fprintf(stderr, "usage: redline_reference man|bash|zsh|fish|markdown\n");
    return 2;
  }
  return 0;
}
