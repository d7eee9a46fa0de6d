#include "engine/tokenizer/gguf_pre_tokenizers.h"

#include <algorithm>
#include <vector>

namespace redline {
namespace {

// Patterns as the models' authors publish them in tokenizer.json.

#define REDLINE_CONTRACTIONS R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define REDLINE_REST R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"
// A word whose capitals come first: GPT-4o's and Tekken's.
#define REDLINE_CAPITALS R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define REDLINE_SMALL R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"

constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kDigits3 = R"(\p{N}{1,3})";
constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    REDLINE_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" REDLINE_REST;
constexpr const char* kQwen2 =
    REDLINE_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)" REDLINE_REST;
constexpr const char* kQwen35 = REDLINE_CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" REDLINE_REST;
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?)" REDLINE_CAPITALS "*" REDLINE_SMALL "+" REDLINE_CONTRACTIONS
    R"(?|[^\r\n\p{L}\p{N}]?)" REDLINE_CAPITALS "+" REDLINE_SMALL "*" REDLINE_CONTRACTIONS
    R"(?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" REDLINE_REST;
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?)" REDLINE_CAPITALS "*" REDLINE_SMALL R"(+|[^\r\n\p{L}\p{N}]?)" REDLINE_CAPITALS
    "+" REDLINE_SMALL R"(*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" REDLINE_REST;
constexpr const char* kSeedCoder =
    REDLINE_CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+)" REDLINE_REST;
constexpr const char* kBloom = R"( ?[^(\s|[.,!?…。，、।۔،])]+)";

constexpr const char* kLineBreak = R"([\r\n])";
constexpr const char* kDeepSeekCjk = "[一-龥ࠀ-一가-퟿]+";
// clang-format off
constexpr const char* kDeepSeekLetters =
    R"(\s?)"
    "[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿ"
    "ᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨ"
    "K-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀"
    "-𐳲𑢠-𑣟𞤀-𞥃]"
    "+";
// clang-format on
constexpr const char* kDeepSeekSigns = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr const char* kDeepSeekTrailing = R"(\s+$)";
constexpr const char* kDeepSeek3Cjk = "[一-龥぀-ゟ゠-ヿ]+";
constexpr const char* kDeepSeek3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)" REDLINE_REST;

#undef REDLINE_CONTRACTIONS
#undef REDLINE_REST
#undef REDLINE_CAPITALS
#undef REDLINE_SMALL

struct PreTokenizer {
  std::vector<std::string_view> names;
  std::vector<const char*> patterns;
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

const std::vector<PreTokenizer>& pre_tokenizers() {
  static const std::vector<PreTokenizer> rows = {
      {.names = {"default", "gpt-2", "phi-2", "jais", "gigachat", "exaone4", "trillion", "granite-docling"},
       .patterns = {kGpt2}},
      {.names = {"olmo", "mpt"}, .patterns = {kGpt2}, .nfc = true},
      {.names = {"smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"},
       .patterns = {kDigit, kGpt2}},
      {.names = {"command-r"}, .patterns = {kDigit, kGpt2}, .nfc = true},
      {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3"},
       .patterns = {kLlama3},
       .ignore_merges = true,
       .add_bos = true},
      {.names = {"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}, .patterns = {kLlama3}},
      {.names = {"qwen2", "deepseek-r1-qwen", "megrez"}, .patterns = {kQwen2}, .nfc = true},
      {.names = {"stablelm2", "hunyuan", "solar-open", "grok-2"}, .patterns = {kQwen2}},
      {.names = {"qwen35"}, .patterns = {kQwen35}, .nfc = true},
      {.names = {"gpt-4o", "llama4", "kanana2"}, .patterns = {kGpt4o}},
      {.names = {"tekken"}, .patterns = {kTekken}, .ignore_merges = true, .add_bos = true},
      {.names = {"seed-coder"}, .patterns = {kSeedCoder}},
      {.names = {"bloom", "poro-chat", "gpt3-finnish"}, .patterns = {kBloom}},
      {.names = {"viking"}, .patterns = {kBloom, kDigit}},
      {.names = {"deepseek-llm"},
       .patterns = {kLineBreak, kDeepSeekLetters, kDeepSeekSigns, kDeepSeekTrailing, kDeepSeekCjk, kDigit}},
      {.names = {"deepseek-coder"},
       .patterns = {kLineBreak, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekCjk, kDigit}},
      {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm"},
       .patterns = {kDigits3, kDeepSeek3Cjk, kDeepSeek3Words}},
  };
  return rows;
}

const PreTokenizer* find(std::string_view name) {
  for (const PreTokenizer& row : pre_tokenizers())
    if (std::ranges::find(row.names, name) != row.names.end()) return &row;
  return nullptr;
}

// Falcon's own steps: signs, GPT-2's words, then, in GPT-2's alphabet, digits in threes.
std::vector<PreTokenizerStep> falcon_steps() {
  return {Split{R"([\p{P}$+<=>^`|~])", SplitBehavior::kContiguous}, Split{kGpt2}, ByteAlphabet{},
          Split{R"(\p{N})", SplitBehavior::kContiguous}, Split{"[0-9][0-9][0-9]"}};
}

}  // namespace

bool set_pre_tokenizer(TokenizerSpec& spec, std::string_view name) {
  const PreTokenizer* row = find(name);
  if (!row && name != "falcon") return false;
  spec.normalizer.clear();
  spec.pre_tokenizer.clear();
  spec.ignore_merges = row && row->ignore_merges;
  if (!row) {
    spec.pre_tokenizer = falcon_steps();
    return true;
  }
  if (row->nfc) spec.normalizer.emplace_back(UnicodeForm{.compatible = false, .composed = true});
  for (const char* pattern : row->patterns) spec.pre_tokenizer.emplace_back(Split{pattern});
  return true;
}

bool pre_tokenizer_adds_bos(std::string_view name) {
  const PreTokenizer* row = find(name);
  return row && row->add_bos;
}

std::string pre_tokenizer_name(const TokenizerSpec& spec) {
  std::vector<std::string_view> names = {"falcon"};
  // "default" says nothing to other programs.
  for (const PreTokenizer& row : pre_tokenizers())
    names.push_back(row.names[row.names.front() == "default" ? 1 : 0]);
  for (const std::string_view name : names) {
    TokenizerSpec known;
    set_pre_tokenizer(known, name);
    if (known.normalizer == spec.normalizer && known.pre_tokenizer == spec.pre_tokenizer &&
        known.ignore_merges == spec.ignore_merges)
      return std::string(name);
  }
  return "";
}

std::vector<std::string_view> known_pre_tokenizers() {
  std::vector<std::string_view> names = {"falcon"};
  for (const PreTokenizer& row : pre_tokenizers())
    names.insert(names.end(), row.names.begin(), row.names.end());
  return names;
}

std::string_view gpt2_pattern() { return kGpt2; }

}  // namespace redline
