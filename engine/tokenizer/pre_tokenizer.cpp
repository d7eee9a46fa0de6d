#include "engine/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <stdexcept>

#include "engine/model_file_error.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/oniguruma.h"
#include "engine/utf8.h"

namespace redline {

PreTokenizer::PreTokenizer(const std::vector<PreTokenizerStep>& steps, const std::string& source)
    : steps_(steps) {
  for (const PreTokenizerStep& step : steps_) {
    pattern_of_.push_back(patterns_.size());
    if (std::holds_alternative<ByteAlphabet>(step)) back_from_alphabet_ = true;
    const auto* split = std::get_if<Split>(&step);
    const auto* metaspace = std::get_if<Metaspace>(&step);
    if (split || (metaspace && metaspace->split)) try {
        patterns_.emplace_back(split ? from_oniguruma(split->pattern)
                                     : quoted_pattern(metaspace->replacement));
      } catch (const std::invalid_argument& error) {
        throw ModelFileError({.file = source, .item = "pre-tokenizer"}, error.what());
      }
  }
}

PreTokenizer::Run::Run(const PreTokenizer& owner, std::deque<std::string>& texts, Emit emit)
    : owner_(owner), texts_(texts), emit_(std::move(emit)) {
  for (const Regex& pattern : owner.patterns_) matchers_.emplace_back(pattern);
}

void PreTokenizer::Run::step(std::string_view text, std::size_t level, bool at_start) {
  if (text.empty()) return;
  if (level == owner_.steps_.size()) {
    if (owner_.back_from_alphabet_)
      if (auto bytes = bytes_from_alphabet(text)) text = keep(*std::move(bytes));
    return emit_(text);
  }
  const PreTokenizerStep& rule = owner_.steps_[level];
  if (std::holds_alternative<Split>(rule)) {
    split(text, level, at_start);
  } else if (const auto* metaspace_rule = std::get_if<Metaspace>(&rule)) {
    metaspace(*metaspace_rule, text, level, at_start);
  } else if (std::holds_alternative<PrefixSpace>(rule)) {
    step(text.starts_with(' ') ? text : keep(" " + std::string(text)), level + 1, at_start);
  } else {
    std::string written;
    for (const char byte : text) append_utf8(written, byte_alphabet()[static_cast<unsigned char>(byte)]);
    step(keep(std::move(written)), level + 1, at_start);
  }
}

// The matches of the step's pattern and what lies between them. As in Hugging Face's engine an empty match
// counts, but not right behind another.
template <typename Visit>
void PreTokenizer::Run::for_each_interval(std::string_view text, std::size_t level, Visit visit) {
  Regex::Matcher& matcher = matchers_[owner_.pattern_of_[level]];
  const auto* rule = std::get_if<Split>(&owner_.steps_[level]);
  const bool invert = rule != nullptr && rule->invert;
  std::size_t done = 0;
  bool matched = false;
  for (std::size_t at = 0; at <= text.size();) {
    const auto match = matcher.find(text, at, Regex::Empty::kMatches);
    if (!match) break;
    if (match->begin == match->end && matched && match->end == done) {
      at += at < text.size() ? utf8_unit(text, at).num_bytes : 1;
      continue;
    }
    if (match->begin > done) visit(Interval{done, match->begin, invert});
    visit(Interval{match->begin, match->end, !invert});
    at = done = match->end;
    matched = true;
  }
  if (done < text.size()) visit(Interval{done, text.size(), invert});
}

void PreTokenizer::Run::split(std::string_view text, std::size_t level, bool at_start) {
  const auto* rule = std::get_if<Split>(&owner_.steps_[level]);
  const SplitBehavior behavior = rule ? rule->behavior : SplitBehavior::kMergedWithNext;
  const auto next = [&](const Interval& piece) {
    step(text.substr(piece.begin, piece.end - piece.begin), level + 1, at_start && piece.begin == 0);
  };
  if (behavior == SplitBehavior::kIsolated) return for_each_interval(text, level, next);
  if (behavior == SplitBehavior::kRemoved)
    return for_each_interval(text, level, [&](const Interval& each) {
      if (!each.matches) next(each);
    });
  // The others join an interval to the one before it, or to the one after it, seen from the end.
  std::vector<Interval> intervals;
  for_each_interval(text, level, [&](const Interval& each) { intervals.push_back(each); });
  const bool backwards = behavior == SplitBehavior::kMergedWithNext;
  if (backwards) std::ranges::reverse(intervals);
  std::vector<Interval> joined;
  bool previous_matches = false;
  for (const Interval& each : intervals) {
    const bool joins = behavior == SplitBehavior::kContiguous ? each.matches == previous_matches
                                                              : each.matches && !previous_matches;
    previous_matches = each.matches;
    if (!joins || joined.empty())
      joined.push_back(each);
    else
      (backwards ? joined.back().begin : joined.back().end) = backwards ? each.begin : each.end;
  }
  if (backwards) std::ranges::reverse(joined);
  for (const Interval& each : joined) next(each);
}

void PreTokenizer::Run::metaspace(const Metaspace& rule, std::string_view text, std::size_t level,
                                  bool at_start) {
  std::string out;
  for (const char c : text) c == ' ' ? out += rule.replacement : out += c;
  const bool prefixes =
      rule.scheme == Metaspace::Scheme::kAlways || (rule.scheme == Metaspace::Scheme::kFirst && at_start);
  if (prefixes && !out.starts_with(rule.replacement)) out.insert(0, rule.replacement);
  const std::string_view kept = keep(std::move(out));
  rule.split ? split(kept, level, at_start) : step(kept, level + 1, at_start);
}

}  // namespace redline
