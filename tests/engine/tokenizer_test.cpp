#include "engine/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/model_file_error.h"
#include "engine/tokenizer/detokenizer.h"
#include "engine/tokenizer/gguf_pre_tokenizers.h"
#include "engine/tokenizer/tokenizer_gguf.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "tests/engine/real_model.h"

namespace redline {
namespace {

const std::filesystem::path kGoldens = std::filesystem::path(REDLINE_SOURCE_DIR) / "tests/goldens/tokenizer";

const Tokenizer& smollm2() {
  static const Tokenizer tokenizer(gguf_tokenizer_spec(GgufFile(real_model_path())));
  return tokenizer;
}

const Tokenizer& llama3() {
  static const Tokenizer tokenizer(load_tokenizer(kGoldens / "llama3"));
  return tokenizer;
}

std::string bytes_of(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  std::string bytes;
  for (TokenId id : ids) bytes += tokenizer.piece(id);
  return bytes;
}

void expect_goldens(const Tokenizer& tokenizer, const std::string& file) {
  const auto cases = nlohmann::json::parse(std::ifstream(kGoldens / file));
  ASSERT_GT(cases.size(), 300u);
  for (const auto& golden : cases) {
    const auto text = golden.at(0).get<std::string>();
    const auto parsed = golden.at(1).get<std::vector<TokenId>>();
    const auto plain = golden.back().get<std::vector<TokenId>>();
    EXPECT_EQ(tokenizer.encode(text), parsed) << golden.at(0);
    EXPECT_EQ(tokenizer.encode(text, {.parse_special = false}), plain) << golden.at(0);
  }
}

TEST(Tokenizer, EncodesAsHuggingFaceUnderTheRealModelsVocabulary) {
  expect_goldens(smollm2(), "smollm2.json");
}

TEST(Tokenizer, ReadsSpecialTokensFromBothFormats) {
  EXPECT_EQ(smollm2().piece(smollm2().spec().eos_id), "<|im_end|>");
  EXPECT_EQ(smollm2().spec().end_of_generation_ids, (std::vector<TokenId>{0, 2}));
  EXPECT_TRUE(smollm2().is_special(0));
  EXPECT_FALSE(smollm2().is_special(100));
  EXPECT_TRUE(smollm2().spec().prefix_ids.empty());

  EXPECT_EQ(llama3().spec().prefix_ids.size(), 1u);
  EXPECT_EQ(llama3().piece(llama3().spec().bos_id), "<s>");
  EXPECT_EQ(llama3().spec().end_of_generation_ids.size(), 3u);
  EXPECT_TRUE(llama3().is_end_of_generation(llama3().spec().eos_id));
  EXPECT_EQ(llama3().encode("", {.add_special = false}), std::vector<TokenId>{});
  EXPECT_EQ(llama3().spec().chat_template, "{{ bos_token }}");
}

TEST(Tokenizer, RandomBytesComeBackWhereTheVocabularyHoldsEveryByte) {
  std::mt19937 rng(17);
  for (int trial = 0; trial < 300; ++trial) {
    std::string text(rng() % 200, ' ');
    for (char& c : text) c = static_cast<char>(rng());
    const auto ids = llama3().encode(text, {.add_special = false, .parse_special = false});
    EXPECT_EQ(bytes_of(llama3(), ids), text) << "seed 17, trial " << trial;
    EXPECT_EQ(llama3().decode(ids), to_valid_utf8(text));
  }
}

TEST(Tokenizer, BytesThatTheVocabularyLacksAreDropped) {
  std::string lacking;
  for (int byte = 0; byte < 256; ++byte)
    if (smollm2().encode(std::string(1, static_cast<char>(byte))).empty()) lacking += static_cast<char>(byte);
  EXPECT_EQ(lacking.size(), 21u);
  EXPECT_EQ(smollm2().encode("Hello" + lacking), smollm2().encode("Hello"));
}

TEST(Tokenizer, InvalidBytesLeaveTheTextAroundThemAsItIs) {
  const auto with = smollm2().encode("Hello world\xe4\x80\x80\x80\xf0\x9f The end.");
  const auto before = smollm2().encode("Hello world"), after = smollm2().encode(" The end.");
  ASSERT_GT(with.size(), before.size() + after.size());
  EXPECT_TRUE(std::equal(before.begin(), before.end(), with.begin()));
  EXPECT_TRUE(std::equal(after.rbegin(), after.rend(), with.rbegin()));
  EXPECT_EQ(bytes_of(smollm2(), with), "Hello world\xe4\x80\x80\x80\xf0\x9f The end.");
}

void expect_mebibytes_come_back(const Tokenizer& tokenizer, std::initializer_list<const char*> units) {
  for (const char* unit : units) {
    std::string text;
    while (text.size() < (1 << 20)) text += unit;
    const auto ids = tokenizer.encode(text, {.add_special = false});
    EXPECT_TRUE(bytes_of(tokenizer, ids) == text) << "runs of '" << unit << "'";
  }
}

TEST(Tokenizer, AMebibyteOfAnyCharacterComesBackUnderTheRealModelsVocabulary) {
  expect_mebibytes_come_back(smollm2(),
                             {"a", " ", "\n", "0", ".", "'", "é", "的", "😀", "\u3000", "\n ", "<|im_end|>"});
}

TEST(Tokenizer, AMebibyteOfAnyCharacterComesBackUnderLlama3sPreTokenizer) {
  expect_mebibytes_come_back(llama3(),
                             {"Z", " ", "\r", "\t", "7", "=", "'s", "\xff", "\u0301", "a1", "\n ", "<"});
}

TEST(Tokenizer, UnknownIdsHaveNoPiece) {
  EXPECT_EQ(smollm2().piece(-1), "");
  EXPECT_EQ(smollm2().piece(smollm2().num_tokens()), "");
  EXPECT_FALSE(smollm2().is_special(1 << 30));
}

TEST(Tokenizer, SkipsSpecialTokensOnlyWhenAsked) {
  const auto ids = smollm2().encode("<|im_start|>user\nhi<|im_end|>");
  EXPECT_EQ(smollm2().decode(ids), "<|im_start|>user\nhi<|im_end|>");
  EXPECT_EQ(smollm2().decode(ids, true), "user\nhi");
}

TEST(Detokenizer, StreamsWhatDecodeGivesAndNeverSplitsACharacter) {
  std::mt19937 rng(5);
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<TokenId> ids(rng() % 40);
    // Half of the trials draw single bytes only: broken characters everywhere.
    for (TokenId& id : ids) id = static_cast<TokenId>(rng() % (trial % 2 ? 256u : 645u));
    for (const bool skip : {false, true}) {
      Detokenizer stream(llama3(), skip);
      std::string text;
      for (TokenId id : ids) {
        const std::string part = stream.feed(id);
        EXPECT_EQ(to_valid_utf8(part), part) << "seed 5, trial " << trial;
        text += part;
      }
      text += stream.finish();
      EXPECT_EQ(text, llama3().decode(ids, skip)) << "seed 5, trial " << trial;
    }
  }
}

TEST(Detokenizer, ShowsTheSpecialTokensThatItIsToldTo) {
  const auto ids = smollm2().encode("<|im_start|>user\nhi<|im_end|>");
  Detokenizer stream(smollm2(), true, Detokenizer::Begins::kText, {ids.back()});
  std::string text;
  for (const TokenId id : ids) text += stream.feed(id);
  EXPECT_EQ(text, "user\nhi<|im_end|>");
}

TEST(Tokenizer, RejectsABadDescriptionNamingTheEntry) {
  const auto message = [](TokenizerSpec spec) -> std::string {
    spec.source = "file";
    try {
      Tokenizer tokenizer(std::move(spec));
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({.tokens = {"a", "b"}, .merges = {"a b"}}),
            "file: merge 0: expected two tokens that make a third, found 'a b'");
  EXPECT_EQ(message({.tokens = {"a", "b"}, .merges = {"ab"}}),
            "file: merge 0: expected two tokens that make a third, found 'ab'");
  EXPECT_EQ(message({.tokens = {"a"}, .added_tokens = {{.id = 1, .content = "<x>"}}}),
            "file: added token '<x>': expected an id below 1, found 1");
  EXPECT_EQ(message({.tokens = {"a"}, .eos_id = 7}),
            "file: special token ids: expected an id below 1, found 7");
  EXPECT_EQ(message({.tokens = {"a"}, .pre_tokenizer = {Split{"a(b"}}}),
            "file: pre-tokenizer: pattern 'a(b', at 3: missing closing parenthesis");
}

TEST(Tokenizer, APatternThatBacktracksWithoutEndFails) {
  const Tokenizer tokenizer({.tokens = {"a"}, .pre_tokenizer = {Split{"(?:a|aa)+[0-9]"}}});
  EXPECT_THROW(tokenizer.encode(std::string(4000, 'a')), std::runtime_error);
}

TEST(TokenizerSpec, EveryNamedPreTokenizerCompilesAndIsInTheTable) {
  std::ifstream page(std::filesystem::path(REDLINE_SOURCE_DIR) / "docs/models.md");
  const std::string text(std::istreambuf_iterator<char>(page), {});
  ASSERT_GE(known_pre_tokenizers().size(), 40u);
  for (const std::string_view name : known_pre_tokenizers()) {
    TokenizerSpec spec{.tokens = {"a"}};
    ASSERT_TRUE(set_pre_tokenizer(spec, name)) << name;
    EXPECT_NO_THROW(Tokenizer{spec}) << name;
    EXPECT_NE(text.find("`" + std::string(name) + "`"), std::string::npos) << name;
  }
  TokenizerSpec spec;
  EXPECT_FALSE(set_pre_tokenizer(spec, "no-such-name"));
}

}  // namespace
}  // namespace redline
