#include "engine/tokenizer/tokenizer_json_steps.h"

#include <array>
#include <optional>
#include <utility>

#include "engine/tokenizer/gguf_pre_tokenizers.h"

namespace redline {
namespace {

using Json = JsonTree::Json;

// "pattern": {"String": ...} or {"Regex": ...}.
std::string read_pattern(const JsonTree& file, const Json& step, const char* stage) {
  const Json& pattern = file.object(step, "pattern");
  if (const auto text = file.get<std::string>(pattern, "String", ""); !text.empty())
    return quoted_pattern(text);
  const auto regex = file.get<std::string>(pattern, "Regex", "");
  if (regex.empty()) file.fail(stage, "a pattern", step);
  return regex;
}

std::string decode_base64(const JsonTree& file, const Json& step) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : file.get<std::string>(step, "precompiled_charsmap", "")) {
    if (c == '=') break;
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos)
      file.fail("normalizer.precompiled_charsmap", "base64", std::string(1, c));
    bits = (bits << 6 | static_cast<std::uint32_t>(digit)) & 0xFFFFFF;
    num_bits += 6;
    if (num_bits >= 8) bytes += static_cast<char>(bits >> (num_bits -= 8) & 0xFF);
  }
  return bytes;
}

Split read_split(const JsonTree& file, const Json& step) {
  constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"Contiguous", SplitBehavior::kContiguous},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext}};
  const auto name = file.get<std::string>(step, "behavior", "Isolated");
  for (const auto& [known, behavior] : kBehaviors)
    if (name == known)
      return {.pattern = {}, .behavior = behavior, .invert = file.get(step, "invert", false)};
  file.fail("pre_tokenizer.behavior", "a known behavior", step);
}

Metaspace read_metaspace(const JsonTree& file, const Json& step, const char* stage) {
  Metaspace rule;
  rule.replacement = file.get<std::string>(step, "replacement", std::string(kSpaceSymbol));
  if (rule.replacement.empty()) file.fail(std::string(stage) + ".replacement", "a character", step);
  rule.split = file.get(step, "split", true);
  const auto scheme = file.get<std::string>(step, "prepend_scheme",
                                            file.get(step, "add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    file.fail(std::string(stage) + ".prepend_scheme", "always, first or never", scheme);
  rule.scheme = scheme == "always"  ? Metaspace::Scheme::kAlways
                : scheme == "first" ? Metaspace::Scheme::kFirst
                                    : Metaspace::Scheme::kNever;
  return rule;
}

void read_byte_level(const JsonTree& file, const Json& step, TokenizerSpec& spec) {
  if (file.get(step, "add_prefix_space", true)) spec.pre_tokenizer.emplace_back(PrefixSpace{});
  if (file.get(step, "use_regex", true)) spec.pre_tokenizer.emplace_back(Split{std::string(gpt2_pattern())});
  spec.pre_tokenizer.emplace_back(ByteAlphabet{});
  spec.byte_level = true;
}

// One kind of step that is a split by a fixed pattern.
std::optional<Split> fixed_split(const JsonTree& file, const Json& step, const std::string& type) {
  constexpr const char* kPunctuation = R"([\p{P}$+<=>^`|~])";
  if (type == "Digits")
    return Split{R"(\p{N})", file.get(step, "individual_digits", false) ? SplitBehavior::kIsolated
                                                                        : SplitBehavior::kContiguous};
  if (type == "Whitespace")
    return Split{
        R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\s]+)",
        SplitBehavior::kRemoved, true};
  if (type == "WhitespaceSplit") return Split{R"(\s)", SplitBehavior::kRemoved};
  if (type == "CharDelimiterSplit")
    return Split{quoted_pattern(file.get<std::string>(step, "delimiter", " ")), SplitBehavior::kRemoved};
  if (type == "Punctuation") {
    Split split = read_split(file, step);
    split.pattern = kPunctuation;
    return split;
  }
  return std::nullopt;
}

// One piece of a TemplateProcessing: a special token's ids, or the text.
std::vector<TokenId> special_ids(const JsonTree& file, const Json& step, const Json& piece) {
  const auto name = file.get<std::string>(file.object(piece, "SpecialToken"), "id", "");
  const Json& token = file.object(file.object(step, "special_tokens"), name.c_str());
  std::vector<TokenId> ids;
  for (const Json& id : file.array(token, "ids")) ids.push_back(file.as<TokenId>(id, "post_processor"));
  if (ids.empty()) file.fail("post_processor", "ids of " + name, step);
  return ids;
}

void read_template(const JsonTree& file, const Json& step, TokenizerSpec& spec) {
  bool before = true;
  for (const Json& piece : file.array(step, "single")) {
    if (!piece.is_object()) file.fail("post_processor.single", "objects", piece);
    if (piece.contains("Sequence")) {
      if (!before) file.fail("post_processor.single", "the text once", file.array(step, "single"));
      before = false;
      continue;
    }
    for (const TokenId id : special_ids(file, step, piece))
      (before ? spec.prefix_ids : spec.suffix_ids).push_back(id);
  }
  if (before) file.fail("post_processor.single", "the text", file.array(step, "single"));
}

}  // namespace

void read_normalizer(const JsonTree& file, TokenizerSpec& spec) {
  for (const Json* step : file.steps("normalizer", "normalizers")) {
    const std::string type = file.type(*step);
    std::vector<NormalizerStep>& rules = spec.normalizer;
    if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD")
      rules.emplace_back(UnicodeForm{.compatible = type.size() == 4, .composed = type.back() == 'C'});
    else if (type == "Lowercase")
      rules.emplace_back(Lowercase{});
    else if (type == "StripAccents")
      rules.emplace_back(StripAccents{});
    else if (type == "Strip")
      rules.emplace_back(
          Strip{.left = file.get(*step, "strip_left", true), .right = file.get(*step, "strip_right", true)});
    else if (type == "Prepend")
      rules.emplace_back(Prepend{file.get<std::string>(*step, "prepend", "")});
    else if (type == "Replace")
      rules.emplace_back(
          Replace{read_pattern(file, *step, "normalizer"), file.get<std::string>(*step, "content", "")});
    else if (type == "Precompiled")
      rules.emplace_back(Precompiled{decode_base64(file, *step)});
    else
      file.fail("normalizer.type",
                "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace or Precompiled",
                *step);
  }
}

void read_pre_tokenizer(const JsonTree& file, TokenizerSpec& spec) {
  spec.byte_level = false;
  for (const Json* step : file.steps("pre_tokenizer", "pretokenizers")) {
    const std::string type = file.type(*step);
    if (auto split = fixed_split(file, *step, type)) {
      spec.pre_tokenizer.emplace_back(*std::move(split));
    } else if (type == "Split") {
      Split rule = read_split(file, *step);
      rule.pattern = read_pattern(file, *step, "pre_tokenizer");
      spec.pre_tokenizer.emplace_back(std::move(rule));
    } else if (type == "Metaspace") {
      spec.pre_tokenizer.emplace_back(read_metaspace(file, *step, "pre_tokenizer"));
    } else if (type == "ByteLevel") {
      if (spec.byte_level) file.fail("pre_tokenizer", "ByteLevel once", *step);
      read_byte_level(file, *step, spec);
    } else {
      file.fail("pre_tokenizer.type",
                "Split, Digits, ByteLevel, Metaspace, Whitespace, WhitespaceSplit, CharDelimiterSplit or "
                "Punctuation",
                *step);
    }
  }
  // At the end the alphabet is of no use: the model takes bytes.
  if (!spec.pre_tokenizer.empty() && std::holds_alternative<ByteAlphabet>(spec.pre_tokenizer.back()))
    spec.pre_tokenizer.pop_back();
}

void read_decoder(const JsonTree& file, TokenizerSpec& spec) {
  bool fused = false, byte_level = false;
  for (const Json* step : file.steps("decoder", "decoders")) {
    const std::string type = file.type(*step);
    if (type == "ByteLevel") {
      spec.decoder.emplace_back(DecodeByteLevel{});
      byte_level = true;
    } else if (type == "ByteFallback") {
      spec.decoder.emplace_back(DecodeBytes{});
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Metaspace" && !fused) {
      const Metaspace rule = read_metaspace(file, *step, "decoder");
      spec.decoder.emplace_back(Replace{quoted_pattern(rule.replacement), " "});
      spec.leading_strip.all_of_first_token = rule.scheme != Metaspace::Scheme::kNever;
    } else if (type == "Replace" && !fused) {
      spec.decoder.emplace_back(
          Replace{read_pattern(file, *step, "decoder"), file.get<std::string>(*step, "content", "")});
    } else if (type == "Strip") {
      const DecodeStrip strip{.content = file.get<std::string>(*step, "content", " "),
                              .start = static_cast<std::size_t>(file.get<TokenId>(*step, "start", 0)),
                              .stop = static_cast<std::size_t>(file.get<TokenId>(*step, "stop", 0))};
      if (!fused)
        spec.decoder.emplace_back(strip);
      else if (strip.content == " " && strip.stop == 0)
        spec.leading_strip.num_spaces += strip.start;
      else
        file.fail("decoder", "after Fuse a Strip of spaces at the start", *step);
    } else {
      file.fail("decoder.type",
                "ByteLevel, ByteFallback, Fuse, Metaspace, Replace or Strip, in an order that a "
                "stream allows",
                *step);
    }
  }
  if (spec.byte_level && spec.decoder.empty())
    spec.decoder.emplace_back(DecodeByteLevel{}), byte_level = true;
  if (spec.byte_level != byte_level)
    file.fail("decoder", spec.byte_level ? "ByteLevel" : "no ByteLevel", file.object(file.root(), "decoder"));
}

bool read_post_processor(const JsonTree& file, TokenizerSpec& spec) {
  bool has_template = false;
  for (const Json* step : file.steps("post_processor", "processors")) {
    const std::string type = file.type(*step);
    if (type == "TemplateProcessing") {
      if (has_template) file.fail("post_processor", "TemplateProcessing once", *step);
      read_template(file, *step, spec);
      has_template = true;
    } else if (type != "ByteLevel") {
      file.fail("post_processor.type", "TemplateProcessing or ByteLevel", *step);
    }
  }
  return has_template;
}

}  // namespace redline
