// What tests/goldens/make_tokenizer_goldens.py recorded of `tokenizers` and `sentencepiece`.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <sstream>

#include "engine/gguf.h"
#include "engine/tokenizer/gguf_pre_tokenizers.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_gguf.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/unicode_form.h"
#include "engine/utf8.h"
#include "tests/engine/golden.h"

namespace redline {
namespace {

const std::filesystem::path kFamilies = kGoldens / "tokenizer";

TokenizerSpec spec_of(const std::string& family) {
  const auto gguf = kFamilies / family / "model.gguf";
  return exists(gguf) ? gguf_tokenizer_spec(GgufFile(gguf)) : load_tokenizer(kFamilies / family);
}

// As zlib computes it.
std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ 0xEDB88320U : crc >> 1;
  }
  return ~crc;
}

std::uint32_t crc32(std::span<const TokenId> ids) {
  std::string bytes;
  for (const TokenId id : ids)
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(id >> shift & 0xFF);
  return crc32(bytes);
}

std::string join(std::span<const TokenId> ids) {
  std::string text;
  for (const TokenId id : ids) text += std::to_string(id) + " ";
  return text;
}

struct Golden {
  std::uint32_t ids, plain_ids, decoded;
};

std::vector<Golden> read_goldens(const std::string& family) {
  const std::string bytes = read_golden(kFamilies / family / "golden.bin");
  std::vector<Golden> goldens;
  for (std::size_t at = 0; at + 12 <= bytes.size(); at += 12) {
    std::array<std::uint32_t, 3> row{};
    for (std::size_t i = 0; i < 12; ++i)
      row[i / 4] |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i])) << 8 * (i % 4);
    goldens.push_back({row[0], row[1], row[2]});
  }
  return goldens;
}

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFamilies))
    if (exists(entry.path() / "golden.bin")) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

class TokenizerGolden : public ::testing::TestWithParam<std::string> {};

// sentencepiece itself knows no special tokens: its rows have plain ids only.
TEST_P(TokenizerGolden, IdsAndDecodedTextsAreTheOracles) {
  const Tokenizer tokenizer(spec_of(GetParam()));
  const auto texts = read_golden_json(kFamilies / "texts.json").get<std::vector<std::string>>();
  const std::vector<Golden> goldens = read_goldens(GetParam());
  ASSERT_EQ(goldens.size(), texts.size());
  ASSERT_GT(texts.size(), 2000u);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const bool has_special = goldens[i].ids != 0;
    const auto plain = tokenizer.encode(texts[i], {.add_special = has_special, .parse_special = false});
    EXPECT_EQ(crc32(plain), goldens[i].plain_ids) << nlohmann::json(texts[i]) << ": " << join(plain);
    if (!has_special) continue;
    const auto ids = tokenizer.encode(texts[i]);
    EXPECT_EQ(crc32(ids), goldens[i].ids) << nlohmann::json(texts[i]) << ": " << join(ids);
    if (goldens[i].decoded != 0) {
      EXPECT_EQ(crc32(tokenizer.decode(ids)), goldens[i].decoded) << nlohmann::json(texts[i]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGolden, ::testing::ValuesIn(families()), [](const auto& param) {
  std::string name = param.param;
  std::ranges::replace_if(
      name, [](char c) { return c == '-' || c == '_'; }, 'x');
  return name;
});

TEST(TokenizerGolden, EveryKindOfFileIsThere) { EXPECT_GE(families().size(), 31u); }

// The name in a GGUF file and the declaration in tokenizer.json are the same steps.
TEST(TokenizerGolden, NamesOfPreTokenizersMeanWhatTheirAuthorsDeclare) {
  const std::pair<const char*, const char*> names[] = {{"gpt-2", "gpt2"},
                                                       {"mpt", "gpt_neox"},
                                                       {"olmo", "gpt_neox"},
                                                       {"smollm", "smollm"},
                                                       {"starcoder", "smollm"},
                                                       {"command-r", "command-r"},
                                                       {"llama-bpe", "llama3"},
                                                       {"dbrx", "dbrx"},
                                                       {"qwen2", "qwen2"},
                                                       {"qwen35", "qwen35"},
                                                       {"gpt-4o", "gpt-4o"},
                                                       {"tekken", "tekken"},
                                                       {"bloom", "bloom"},
                                                       {"falcon", "falcon"},
                                                       {"deepseek-llm", "deepseek-llm"},
                                                       {"deepseek-v3", "deepseek-v3"},
                                                       {"deepseek-coder", "deepseek-coder"}};
  for (const auto& [name, family] : names) {
    const TokenizerSpec declared = spec_of(family);
    TokenizerSpec named;
    ASSERT_TRUE(set_pre_tokenizer(named, name)) << name;
    EXPECT_EQ(named.normalizer, declared.normalizer) << name;
    EXPECT_EQ(named.pre_tokenizer, declared.pre_tokenizer) << name;
    EXPECT_EQ(named.ignore_merges, declared.ignore_merges) << name;
    TokenizerSpec again;
    ASSERT_TRUE(set_pre_tokenizer(again, pre_tokenizer_name(declared))) << name;
    EXPECT_EQ(again.pre_tokenizer, declared.pre_tokenizer) << name;
  }
}

std::string bytes_of(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  std::string bytes;
  for (const TokenId id : ids) bytes += tokenizer.piece(id);
  return bytes;
}

// `prefix`: what the normaliser puts before a text that begins with a character.
void expect_mebibytes_come_back(const std::string& family, const std::string& prefix,
                                std::initializer_list<const char*> units) {
  const Tokenizer tokenizer(spec_of(family));
  for (const char* unit : units) {
    std::string text;
    while (text.size() < (1 << 20)) text += unit;
    const auto ids = tokenizer.encode(text, {.add_special = false});
    EXPECT_TRUE(bytes_of(tokenizer, ids) == (utf8_unit(unit, 0).valid ? prefix : "") + text)
        << family << ", runs of '" << unit << "'";
  }
}

// In time that grows with n log n: what grows with its square takes hours.
TEST(TokenizerGolden, AMebibyteOfAnyCharacterComesBack) {
  expect_mebibytes_come_back("llama2", " ", {"a", " ", "\n", "的", "\u0301", "\x01", "a ", "\xff"});
  expect_mebibytes_come_back("sp_bpe_bytes", " ", {"e", " ", "0", "é", "<tool>", "USR", "the ", "\x80"});
  expect_mebibytes_come_back("sp_unigram_bytes", " ", {"a", " ", "1", "😀", "qx", "it was ", "\xc3"});
  expect_mebibytes_come_back("unigram_bytes", " ", {"t", "q ", ".", "ж"});
  expect_mebibytes_come_back("gemma", "", {"o", " ", "\t", "\u180e", "\xf0\x9f"});
  expect_mebibytes_come_back("gpt-4o", "", {"A", "aB", "1", "\u0301", " \n", "\xe4"});
  expect_mebibytes_come_back("deepseek-llm", "", {" ", "  5", "\r", "。", "한", " é"});
  expect_mebibytes_come_back("falcon", "", {"7", "1 ", "!", "½", "\u3000"});
}

TEST(TokenizerGolden, MarksInTheWrongOrderAreSortedInNLogN) {
  const Tokenizer tokenizer(spec_of("gpt_neox"));
  std::string text = "a", sorted = "a";
  constexpr int kMarks = 1 << 18;
  for (int i = 0; i < kMarks; ++i) text += "\u0308\u0323";
  for (int i = 0; i < 2 * kMarks; ++i) sorted += i < kMarks ? "\u0323" : "\u0308";
  const std::string composed = "\u1EA1" + sorted.substr(3);  // a and the first dot below
  EXPECT_TRUE(tokenizer.encode(text) == tokenizer.encode(composed));
}

// Vocabularies of real models with published cases (X.gguf, X.gguf.inp, X.gguf.out, as llama.cpp keeps them
// in models/), which are too large for this repository.
TEST(TokenizerGolden, AgreesWithPublishedCases) {
  const char* folder = std::getenv("REDLINE_VOCABULARIES");
  if (!folder) GTEST_SKIP() << "REDLINE_VOCABULARIES names no folder";
  int num_cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string path = entry.path().string();
    if (!path.ends_with(".gguf") || !std::filesystem::exists(path + ".inp")) continue;
    const GgufFile file(path);
    if (file.find_string("tokenizer.ggml.model") == "bert") continue;
    const Tokenizer tokenizer(gguf_tokenizer_spec(file));
    const std::string inputs = read_golden(path + ".inp"), mark = "\n__ggml_vocab_test__\n";
    std::stringstream outputs(read_golden(path + ".out"));
    for (std::size_t begin = 0; begin != std::string::npos;) {
      const std::size_t end = inputs.find(mark, begin);
      const std::string text = inputs.substr(begin, end == std::string::npos ? end : end - begin);
      std::string line;
      std::getline(outputs, line);
      std::stringstream numbers(line);
      const std::vector<TokenId> expected{std::istream_iterator<TokenId>(numbers), {}};
      const auto ids = tokenizer.encode(text, {.add_special = false, .parse_special = false});
      // Some cases are llama.cpp's own, which leaves letters and marks as they come.
      const bool is_composed = unicode_normalize(text, false, true) == text;
      EXPECT_TRUE(ids == expected || !is_composed) << path << ": " << nlohmann::json(text);
      begin = end == std::string::npos ? end : end + mark.size();
      ++num_cases;
    }
  }
  EXPECT_GT(num_cases, 0);
}

}  // namespace
}  // namespace redline
