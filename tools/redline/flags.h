// The flags of one command, bound to variables. Every flag is also an environment variable: --top-k is
// REDLINE_TOP_K. The parser behind it is CLI11, which only flags.cpp and program.cpp know.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace CLI {
class App;
}

namespace redline {

/// Wrong usage. Exit status 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What help, the manual page and completions say of one flag.
struct FlagDescription {
  std::string names;  // "-n,--max-tokens", or "MODEL" for an argument
  std::string value;  // "N"; empty: takes none
  std::string help;   // ends in "(default: X)" where there is one
  bool repeatable = false;
  bool several_at_once = false;  // takes all words up to the next flag
  bool required = false;

  bool is_argument() const { return names.front() != '-'; }
  std::string long_name() const { return names.substr(names.rfind("--") + 2); }
  std::string environment_name() const;
};

class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(app) {}

  /// A value without a flag, in the order of declaration.
  void argument(const char* name, const char* help, std::string& target, bool required = true);
  void argument(const char* name, const char* help, std::optional<std::string>& target);
  void flag(const char* names, const char* help, bool& target);
  void text(const char* names, const char* value, const char* help, std::string& target);
  void text(const char* names, const char* value, const char* help, std::optional<std::string>& target);
  void texts(const char* names, const char* value, const char* help, std::vector<std::string>& target,
             bool several_at_once = false);
  void number(const char* names, const char* help, float& target, double min, double max);
  void number(const char* names, const char* help, std::optional<double>& target, double min, double max);
  void number(const char* names, const char* help, std::uint64_t& target);
  void number(const char* names, const char* help, std::int32_t& target, std::int32_t min,
              std::int32_t max = std::numeric_limits<std::int32_t>::max());
  void numbers(const char* names, const char* help, std::vector<std::int32_t>& target, std::int32_t min);
  /// "8192", "8K", "1.5GiB": K, M, G are powers of 1000; Ki, Mi, Gi of 1024; a B may follow.
  void size(const char* names, const char* help, std::int64_t& target, std::int64_t min = 0);
  /// "512,4K".
  void sizes(const char* names, const char* help, std::vector<std::int64_t>& target, std::int64_t min);
  /// Seconds, above 0: "50ms", "1.5s", "800us".
  void duration(const char* names, const char* help, std::optional<double>& target);
  void dtype(const char* names, const char* help, DType& target, std::vector<DType> allowed);
  void dtype(const char* names, const char* help, std::optional<DType>& target);

  const std::vector<FlagDescription>& descriptions() const { return descriptions_; }

 private:
  /// `take` is given each value's text; its UsageError is completed with the flag's name.
  void add(FlagDescription description, std::function<void(const std::string&)> take);

  CLI::App& app_;
  std::vector<FlagDescription> descriptions_;
};

}  // namespace redline
