// Regular expressions of tokenizers: PCRE2 with Unicode properties, compiled to machine code, with limits.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

namespace redline {

/// A compiled pattern; immutable, shared by threads. `\s` and `\S` mean Unicode's White_Space, as in Hugging
/// Face's engines (PCRE2's own adds U+180E).
class Regex {
 public:
  struct Match {
    std::size_t begin, end;
  };
  /// Whether a match may be empty.
  enum class Empty { kNever, kMatches };

  /// Throws std::invalid_argument with PCRE2's message and the place in the pattern.
  explicit Regex(const std::string& pattern);

  /// `text` with every match replaced; in `replacement`, $1 is a group and \U, \L, \E change the case of what
  /// follows. Requires valid UTF-8. Throws std::runtime_error as find() does.
  std::string replace(std::string_view text, const char* replacement) const;

  /// One thread's matching state.
  class Matcher {
   public:
    explicit Matcher(const Regex& regex);
    /// The leftmost match in text[start..]. Requires valid UTF-8 and `start` on a character or the end.
    /// Throws std::runtime_error where the pattern backtracks beyond a limit that grows with the text.
    std::optional<Match> find(std::string_view text, std::size_t start, Empty empty = Empty::kNever);

   private:
    struct Free {
      void operator()(pcre2_real_match_data_8* data) const;
      void operator()(pcre2_real_match_context_8* context) const;
    };
    const Regex& regex_;
    std::unique_ptr<pcre2_real_match_data_8, Free> data_;
    std::unique_ptr<pcre2_real_match_context_8, Free> context_;
  };

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

}  // namespace redline
