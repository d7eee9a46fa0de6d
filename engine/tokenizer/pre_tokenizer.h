// The third stage: normalised text to pieces, which the model turns into tokens one by one.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/regex.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace redline {

/// Immutable; shared by threads.
class PreTokenizer {
 public:
  /// Throws ModelFileError naming `source` and the pattern that does not compile.
  PreTokenizer(const std::vector<PreTokenizerStep>& steps, const std::string& source);

  /// One text's way through the steps.
  class Run {
   public:
    using Emit = std::function<void(std::string_view piece)>;
    /// Pieces are views of the texts cut, or of `texts`, which must outlive them.
    Run(const PreTokenizer& owner, std::deque<std::string>& texts, Emit emit);
    /// Emits the pieces of `text` (valid UTF-8, not empty) in order. `at_start`: it begins the whole text.
    /// Throws std::runtime_error where a pattern backtracks without end.
    void cut(std::string_view text, bool at_start) { step(text, 0, at_start); }

   private:
    struct Interval {
      std::size_t begin, end;
      bool matches;
    };

    void step(std::string_view text, std::size_t level, bool at_start);
    void split(std::string_view text, std::size_t level, bool at_start);
    void metaspace(const Metaspace& rule, std::string_view text, std::size_t level, bool at_start);
    template <typename Visit>
    void for_each_interval(std::string_view text, std::size_t level, Visit visit);
    std::string_view keep(std::string text) { return texts_.emplace_back(std::move(text)); }

    const PreTokenizer& owner_;
    std::deque<std::string>& texts_;
    Emit emit_;
    std::vector<Regex::Matcher> matchers_;  // by pattern
  };

 private:
  std::vector<PreTokenizerStep> steps_;
  std::vector<Regex> patterns_;
  std::vector<std::size_t> pattern_of_;  // by step, where it has one
  bool back_from_alphabet_ = false;      // pieces leave as bytes
};

}  // namespace redline
