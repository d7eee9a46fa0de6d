#include "engine/tokenizer/normalizer.h"

#include <stdexcept>

#include "engine/model_file_error.h"
#include "engine/regex.h"
#include "engine/tokenizer/charsmap.h"
#include "engine/tokenizer/oniguruma.h"
#include "engine/tokenizer/prefix_trie.h"
#include "engine/tokenizer/unicode_form.h"
#include "engine/utf8.h"

namespace redline {
namespace {

using Edges = Normalizer::Edges;
using Step = Normalizer::Step;

// A step that is a function of the text alone.
template <typename Function>
class TextStep final : public Step {
 public:
  explicit TextStep(Function function) : function_(std::move(function)) {}
  std::string apply(std::string_view text, Edges) const override { return function_(text); }

 private:
  Function function_;
};

template <typename Function>
std::unique_ptr<const Step> text_step(Function function) {
  return std::make_unique<TextStep<Function>>(std::move(function));
}

std::string strip(std::string_view text, const Strip& sides) {
  std::size_t begin = 0, end = text.size(), last = 0;  // `last`: one past the last character that is no space
  bool leading = true;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = utf8_unit(text, at);
    const bool space = is_white_space(unit.code_point);
    if (leading && !space) leading = false, begin = at;
    at += unit.num_bytes;
    if (!space) last = at;
  }
  if (leading) return std::string(sides.left || sides.right ? "" : text);
  if (!sides.left) begin = 0;
  if (sides.right) end = last;
  return std::string(text.substr(begin, end - begin));
}

class PrependStep final : public Step {
 public:
  explicit PrependStep(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string apply(std::string_view text, Edges edges) const override {
    return edges.begins && !text.empty() ? prefix_ + std::string(text) : std::string(text);
  }

 private:
  std::string prefix_;
};

class ReplaceStep final : public Step {
 public:
  explicit ReplaceStep(const Replace& replace)
      : pattern_(from_oniguruma(replace.pattern)), text_(replace.text) {}
  std::string apply(std::string_view text, Edges) const override {
    std::string out;
    out.reserve(text.size());
    std::size_t done = 0;
    Regex::Matcher matcher(pattern_);
    while (done < text.size()) {
      const auto match = matcher.find(text, done);
      if (!match) break;
      (out += text.substr(done, match->begin - done)) += text_;
      done = match->end;
    }
    return out += text.substr(done);
  }

 private:
  Regex pattern_;
  std::string text_;
};

// Hugging Face takes whatever the shortest prefix of a short grapheme cluster maps to for the whole cluster.
class PrecompiledStep final : public Step {
 public:
  explicit PrecompiledStep(std::string_view charsmap) : charsmap_(charsmap) {}
  std::string apply(std::string_view text, Edges) const override {
    constexpr std::size_t kShortCluster = 6;  // bytes, exclusive
    std::string out;
    out.reserve(text.size());
    Regex::Matcher matcher(cluster_);
    for (std::size_t at = 0; at < text.size();) {
      const auto cluster = matcher.find(text, at);
      const std::size_t end = cluster ? cluster->end : text.size();
      const auto whole =
          end - at < kShortCluster ? charsmap_.shortest(text.substr(at, end - at)) : std::nullopt;
      if (whole) out += whole->replacement;
      while (!whole && at < end) {
        const std::string_view character = text.substr(at, utf8_unit(text, at).num_bytes);
        const auto match = charsmap_.shortest(character);
        out += match ? match->replacement : character;
        at += character.size();
      }
      at = end;
    }
    return out;
  }

 private:
  Charsmap charsmap_;
  Regex cluster_{R"(\X)"};
};

class SentencePieceStep final : public Step {
 public:
  explicit SentencePieceStep(const SentencePieceNormalizer& rules)
      : rules_(rules), charsmap_(rules.charsmap), space_(rules.escape_whitespaces ? kSpaceSymbol : " ") {
    std::vector<PrefixTrie::Key> keys;
    for (const std::string& text : rules.user_defined) keys.push_back({text, 0});
    user_defined_ = PrefixTrie(std::move(keys));
  }

  std::string apply(std::string_view text, Edges edges) const override {
    std::string out;
    out.reserve(text.size() + text.size() / 4);
    const bool squeeze = rules_.remove_extra_whitespaces;
    bool after_space = squeeze && edges.begins;  // spaces that follow are dropped
    bool begun = !edges.begins;
    for (std::size_t at = 0; at < text.size();) {
      const Charsmap::Match match = normal_prefix(text.substr(at));
      std::string_view part = match.replacement;
      at += match.length;
      while (after_space && part.starts_with(' ')) part.remove_prefix(1);
      if (!begun && (!part.empty() || !after_space)) {
        if (rules_.add_dummy_prefix && !rules_.whitespace_as_suffix) out += space_;
        begun = true;
      }
      for (const char c : part) c == ' ' ? out += space_ : out += c;
      if (!part.empty()) after_space = squeeze && part.ends_with(' ');
    }
    while (squeeze && edges.ends && out.ends_with(space_)) out.resize(out.size() - space_.size());
    if (edges.ends && begun && rules_.whitespace_as_suffix && rules_.add_dummy_prefix) out += space_;
    return out;
  }

 private:
  // What the beginning of `text` becomes; at least one character is taken.
  Charsmap::Match normal_prefix(std::string_view text) const {
    if (const auto match = user_defined_.longest_prefix(text); match.length > 0)
      return {text.substr(0, match.length), match.length};
    if (const auto match = charsmap_.longest(text)) return *match;
    const std::size_t size = utf8_unit(text, 0).num_bytes;
    return {text.substr(0, size), size};
  }

  SentencePieceNormalizer rules_;
  Charsmap charsmap_;
  PrefixTrie user_defined_;
  std::string_view space_;
};

struct MakeStep {
  std::unique_ptr<const Step> operator()(const UnicodeForm& form) const {
    return text_step(
        [form](std::string_view text) { return unicode_normalize(text, form.compatible, form.composed); });
  }
  std::unique_ptr<const Step> operator()(Lowercase) const { return text_step(lowercase); }
  std::unique_ptr<const Step> operator()(StripAccents) const { return text_step(strip_accents); }
  std::unique_ptr<const Step> operator()(const Strip& sides) const {
    return text_step([sides](std::string_view text) { return strip(text, sides); });
  }
  std::unique_ptr<const Step> operator()(const Prepend& step) const {
    return std::make_unique<PrependStep>(step.text);
  }
  std::unique_ptr<const Step> operator()(const Replace& step) const {
    return std::make_unique<ReplaceStep>(step);
  }
  std::unique_ptr<const Step> operator()(const Precompiled& step) const {
    return std::make_unique<PrecompiledStep>(step.charsmap);
  }
  std::unique_ptr<const Step> operator()(const SentencePieceNormalizer& step) const {
    return std::make_unique<SentencePieceStep>(step);
  }
};

}  // namespace

Normalizer::Normalizer(const std::vector<NormalizerStep>& steps, const std::string& source) {
  for (const NormalizerStep& step : steps) try {
      steps_.push_back(std::visit(MakeStep(), step));
      // SentencePiece's own symbols are spelled as the normalised text is.
      if (std::holds_alternative<SentencePieceNormalizer>(step)) keeps_added_tokens_ = true;
    } catch (const std::invalid_argument& error) {
      throw ModelFileError({.file = source, .item = "normalizer"}, error.what());
    }
}

Normalizer::~Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;

std::string Normalizer::operator()(std::string_view text, Edges edges) const {
  std::string normalized(text);
  for (const auto& step : steps_) normalized = step->apply(normalized, edges);
  return normalized;
}

std::string Normalizer::added_token(const std::string& content) const {
  return keeps_added_tokens_ ? content : (*this)(content, {});
}

}  // namespace redline
