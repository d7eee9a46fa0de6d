// Every family's tokenizer written as GGUF keys and read again: the same ids, or a refusal by name.
#include "engine/gguf_vocabulary.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>

#include "engine/gguf.h"
#include "engine/model_file_error.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_gguf.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "tests/engine/golden.h"
#include "tests/engine/model_files.h"

namespace redline {
namespace {

const std::filesystem::path kFamilies = kGoldens / "tokenizer";

TokenizerSpec spec_of(const std::filesystem::path& folder) {
  const auto gguf = folder / "model.gguf";
  return exists(gguf) ? gguf_tokenizer_spec(GgufFile(gguf)) : load_tokenizer(folder);
}

// Without what GGUF has no words for: flags of added tokens, and SentencePiece's user-defined tokens.
TokenizerSpec plain(TokenizerSpec spec) {
  for (AddedToken& token : spec.added_tokens)
    token.lstrip = token.rstrip = token.single_word = token.normalized = false;
  if (spec.byte_level || spec.model == TokenModelKind::kBpe) return spec;
  std::erase_if(spec.added_tokens, [](const AddedToken& token) { return !token.special; });
  for (std::size_t id = 0; id < spec.kinds.size(); ++id) {
    if (spec.kinds[id] != TokenKind::kUserDefined && spec.kinds[id] != TokenKind::kUnused) continue;
    spec.kinds[id] = TokenKind::kUnused;
    spec.tokens[id].clear();
  }
  for (NormalizerStep& step : spec.normalizer)
    if (auto* rules = std::get_if<SentencePieceNormalizer>(&step)) rules->user_defined.clear();
  return spec;
}

// The same vocabulary as tokenizer.json has it: every pair of tokens that makes a token, by its score.
TokenizerSpec ranked(const TokenizerSpec& scored) {
  TokenizerSpec spec = scored;
  spec.model = TokenModelKind::kBpe;
  spec.normalizer = {Prepend{std::string(kSpaceSymbol)},
                     Replace{quoted_pattern(" "), std::string(kSpaceSymbol)}};
  std::map<std::string, std::size_t> ids;
  for (std::size_t id = 0; id < spec.tokens.size(); ++id)
    if (spec.kinds[id] == TokenKind::kNormal) ids.emplace(spec.tokens[id], id);
  std::vector<std::tuple<double, std::size_t, std::string>> merges;
  for (const auto& [token, id] : ids)
    for (std::size_t cut = 1; cut < token.size(); ++cut)
      if (ids.contains(token.substr(0, cut)) && ids.contains(token.substr(cut)))
        merges.emplace_back(-spec.scores[id], id, token.substr(0, cut) + " " + token.substr(cut));
  std::ranges::sort(merges);
  spec.merges.clear();
  for (const auto& merge : merges) spec.merges.push_back(std::get<2>(merge));
  spec.scores.clear();
  spec.kinds.clear();
  return spec;
}

class GgufVocabularyTest : public testing::Test {
 protected:
  TokenizerSpec reread(const TokenizerSpec& spec) {
    GgufOutput out;
    add_vocabulary(out, spec, std::ssize(spec.tokens) + 3);
    out.write(directory_.path() / "out.gguf");
    return gguf_tokenizer_spec(GgufFile(directory_.path() / "out.gguf"));
  }
  void expect_same_ids(const TokenizerSpec& expected, const TokenizerSpec& found, const std::string& family) {
    const Tokenizer before(expected), after(found);
    int num_different = 0;
    for (const std::string& text : texts_)
      for (const bool special : {false, true}) {
        const Tokenizer::EncodeOptions options{.add_special = special, .parse_special = special};
        if (before.encode(text, options) == after.encode(text, options)) continue;
        if (num_different++ == 0)
          ADD_FAILURE() << family << ": " << nlohmann::json(text) << ": "
                        << testing::PrintToString(before.encode(text, options)) << " became "
                        << testing::PrintToString(after.encode(text, options));
      }
    EXPECT_EQ(num_different, 0) << family;
  }
  static std::string refusal(const TokenizerSpec& spec) {
    try {
      GgufOutput out;
      add_vocabulary(out, spec, 0);
    } catch (const ModelFileError& error) {
      return error.what();
    }
    return "";
  }

  TemporaryDirectory directory_;
  std::vector<std::string> texts_ = read_golden_json(kFamilies / "texts.json");
};

TEST_F(GgufVocabularyTest, FamiliesGiveTheSameIdsOrAreRefusedByName) {
  std::set<std::string> refused;
  int num_same = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kFamilies)) {
    if (!exists(entry.path() / "golden.bin")) continue;
    const std::string family = entry.path().filename();
    const TokenizerSpec spec = plain(spec_of(entry.path()));
    if (const std::string why = refusal(spec); !why.empty()) {
      EXPECT_NE(why.find("expected one that GGUF has words for"), std::string::npos) << why;
      refused.insert(family);
      continue;
    }
    expect_same_ids(spec, reread(spec), family);
    ++num_same;
  }
  // Trained tokenizers lack some pairs that make a token; the others have normalisers of their own.
  EXPECT_EQ(refused, (std::set<std::string>{"gemma", "llama2", "mistral", "roberta", "sp_suffix", "splits",
                                            "unigram", "unigram_bytes", "words_fused", "words_unfused"}));
  EXPECT_GE(num_same, 20);
}

TEST_F(GgufVocabularyTest, RankedMergesThatFollowScoresBecomeScores) {
  for (const char* family : {"sp_bpe", "sp_bpe_bytes"}) {
    const TokenizerSpec spec = ranked(plain(spec_of(kFamilies / family)));
    ASSERT_GT(spec.merges.size(), 100u);
    expect_same_ids(spec, reread(spec), family);
    TokenizerSpec incomplete = spec;
    incomplete.merges.erase(incomplete.merges.begin() + 7);
    EXPECT_NE(refusal(incomplete).find("merges: "), std::string::npos);
  }
}

TEST_F(GgufVocabularyTest, RefusesTokensThatOnlySentencePieceWouldMake) {
  const std::string why = refusal(ranked(plain(spec_of(kFamilies / "gguf_llama"))));
  EXPECT_NE(why.find("merges: "), std::string::npos) << "its two characters are no tokens";
}

TEST_F(GgufVocabularyTest, RefusesTokensThatTakeSpacesOrAreUserDefined) {
  EXPECT_NE(refusal(spec_of(kFamilies / "llama3")).find("added token"), std::string::npos);
  EXPECT_NE(refusal(spec_of(kFamilies / "sp_bpe_bytes")).find("user-defined token"), std::string::npos);
}

}  // namespace
}  // namespace redline
