#include "engine/tokenizer/oniguruma.h"

#include <algorithm>
#include <stdexcept>

namespace redline {
namespace {

constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr const char* kLatin1Word = R"(\xB2\xB3\xB9\xBC-\xBE)";  // to Oniguruma too, but not in sets
constexpr std::string_view kHexDigit = "0-9A-Fa-f";

constexpr std::pair<std::string_view, std::string_view> kLongNames[] = {{"Letter", "L"},
                                                                        {"Mark", "M"},
                                                                        {"Number", "N"},
                                                                        {"Punctuation", "P"},
                                                                        {"Punct", "P"},
                                                                        {"Symbol", "S"},
                                                                        {"Separator", "Z"},
                                                                        {"Uppercase_Letter", "Lu"},
                                                                        {"Lowercase_Letter", "Ll"},
                                                                        {"Other", "C"},
                                                                        {"Decimal_Number", "Nd"}};
// PCRE2's plain \p{Han} goes by the script's extensions.
constexpr std::string_view kScripts[] = {
    "Arabic",    "Armenian", "Bengali",  "Bopomofo", "Cyrillic", "Devanagari", "Ethiopic",
    "Georgian",  "Greek",    "Gujarati", "Gurmukhi", "Han",      "Hangul",     "Hebrew",
    "Hiragana",  "Kannada",  "Katakana", "Khmer",    "Lao",      "Latin",      "Malayalam",
    "Mongolian", "Myanmar",  "Sinhala",  "Tamil",    "Telugu",   "Thai",       "Tibetan"};

class Translation {
 public:
  explicit Translation(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) depth_ > 0 ? in_set() : outside();
    return std::move(out_);
  }

 private:
  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void take(std::size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }
  void write(std::size_t count, std::string_view text) {
    out_ += text;
    at_ += count;
  }

  void outside() {
    if (next_is("\\")) return escape();
    if (next_is("[")) return open_set();
    if (next_is("^")) return write(1, "(?m:^)");
    if (next_is("$")) return write(1, "(?m:$)");
    take(1);
  }

  void open_set() {
    take(next_is("[^") ? 2 : 1);
    depth_ = 1;
    if (next_is("]")) write(1, "\\]");
  }

  void in_set() {
    if (next_is("\\")) return escape();
    if (next_is("[:")) {
      const std::size_t end = pattern_.find(":]", at_);
      if (end != std::string_view::npos) return take(end + 2 - at_);
    }
    if (next_is("&&")) throw std::invalid_argument(refusal("an intersection of sets"));
    if (next_is("[^")) throw std::invalid_argument(refusal("a negated set within a set"));
    if (next_is("[")) {
      depth_ += 1;
      at_ += 1;
    } else if (next_is("]")) {
      depth_ -= 1;
      depth_ == 0 ? take(1) : write(1, "");
    } else {
      take(1);
    }
  }

  void escape() {
    const auto set = [&](std::string_view members, bool negated) {
      if (depth_ > 0 && negated) return take(2);
      write(2, depth_ > 0 ? std::string(members) : (negated ? "[^" : "[") + std::string(members) + "]");
    };
    if (next_is("\\w") || next_is("\\W"))
      return set(std::string(kWord) + (depth_ > 0 ? "" : kLatin1Word), pattern_[at_ + 1] == 'W');
    if (next_is("\\h") || next_is("\\H")) return set(kHexDigit, pattern_[at_ + 1] == 'H');
    if (next_is("\\p{") || next_is("\\P{")) return property();
    take(std::min<std::size_t>(2, pattern_.size() - at_));
  }

  void property() {
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) return take(pattern_.size() - at_);
    take(3);
    if (next_is("^")) take(1);
    std::string_view name = pattern_.substr(at_, end - at_);
    for (const auto& [known, category] : kLongNames)
      if (name == known) name = category;
    if (std::ranges::find(kScripts, name) != std::end(kScripts)) out_ += "sc:";
    write(end - at_, name);
  }

  std::string refusal(const char* what) const {
    return "pattern '" + std::string(pattern_) + "', at " + std::to_string(at_) + ": " + what +
           " is not supported";
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  int depth_ = 0;  // of sets
  std::string out_;
};

}  // namespace

std::string from_oniguruma(std::string_view pattern) {
  // The same matches, but without a try from each place of a run of spaces that does not end the line.
  if (pattern == R"(\s+$)") pattern = R"((?<!\s)\s+$)";
  return Translation(pattern).run();
}

}  // namespace redline
