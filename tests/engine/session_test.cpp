// Saved sessions: bit for bit the same continuation, and a clear refusal of every other file.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/model_file_error.h"
#include "tests/engine/model_files.h"
#include "tests/engine/tiny_model.h"

namespace redline {
namespace {

struct Answered {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  std::int64_t cached = 0;
  bool operator==(const Answered& other) const {
    return tokens == other.tokens && logprobs == other.logprobs;
  }
};

Answered answer(Engine& engine, const std::vector<std::int32_t>& prompt) {
  Request request;
  request.prompt = prompt;
  request.sampling.max_tokens = 21;
  request.sampling.num_logprobs = 0;
  const auto stream = engine.submit(request);
  Answered result;
  while (const auto event = stream->next()) {
    EXPECT_NE(event->finish_reason, FinishReason::kError) << event->error;
    result.tokens.insert(result.tokens.end(), event->token_ids.begin(), event->token_ids.end());
    for (const auto& candidates : event->logprobs) result.logprobs.push_back(candidates.front().logprob);
  }
  result.cached = stream->usage().cached_tokens;
  return result;
}

EngineOptions options_for(DType kv_dtype) {
  EngineOptions options;
  options.kv_dtype = kv_dtype;
  options.max_context = 512;
  options.kv_memory_bytes = 1 << 20;
  return options;
}

std::vector<std::int32_t> joined(std::vector<std::int32_t> a, const std::vector<std::int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class SavedSession : public ::testing::Test {
 protected:
  // Saves a prompt of 117 tokens and its answer of 21: 137 computed tokens, 128 of them in whole blocks.
  void SetUp() override {
    Engine engine(tiny_model(), options_for(DType::kBF16));
    prompt_ = random_tokens(117, 5, tiny_config().vocab_size);
    first_ = answer(engine, prompt_);
    EXPECT_EQ(engine.save_session(joined(prompt_, first_.tokens), path()), 128);
  }
  std::string path() const { return (directory_.path() / "session").string(); }
  std::string bytes() const {
    std::ostringstream text;
    text << std::ifstream(path(), std::ios::binary).rdbuf();
    return text.str();
  }
  std::string refusal_of(Engine& engine, const std::string& content) const {
    const auto file = directory_.write("changed", content);
    try {
      engine.load_session(file.string());
    } catch (const ModelFileError& error) {
      EXPECT_EQ(std::string(error.what()).find(file.string() + ": "), 0u) << error.what();
      return error.what();
    }
    return "";
  }

  TemporaryDirectory directory_;
  std::vector<std::int32_t> prompt_;
  Answered first_;
};

TEST_F(SavedSession, GivesTheSameContinuationBitForBit) {
  const auto longer = joined(prompt_, random_tokens(40, 6, tiny_config().vocab_size));
  const auto later = joined(joined(prompt_, first_.tokens), {1, 2, 3});
  Engine without(tiny_model(), options_for(DType::kBF16));
  Engine with(tiny_model(DType::kQ8_0, /*threads=*/1), options_for(DType::kBF16));
  EXPECT_EQ(with.load_session(path()), 128);
  for (const auto& [prompt, cached] : {std::pair{prompt_, 112}, {longer, 112}, {later, 128}}) {
    const Answered found = answer(with, prompt);
    EXPECT_EQ(found, answer(without, prompt));
    EXPECT_EQ(found.cached, cached);
  }
  EXPECT_EQ(answer(with, prompt_), first_);
}

TEST_F(SavedSession, MayBeLoadedTwiceAndSavedAgain) {
  Engine engine(tiny_model(), options_for(DType::kBF16));
  EXPECT_EQ(engine.load_session(path()), 128);
  EXPECT_EQ(engine.load_session(path()), 128);
  const std::string again = (directory_.path() / "again").string();
  EXPECT_EQ(engine.save_session(joined(prompt_, first_.tokens), again), 128);
  std::ostringstream text;
  text << std::ifstream(again, std::ios::binary).rdbuf();
  EXPECT_EQ(text.str(), bytes());
  EXPECT_EQ(engine.stats().kv_usage, 0) << "cached prefixes are held by nobody";
}

TEST_F(SavedSession, IsRefusedByAnotherModelCacheOrContext) {
  Engine other_type(tiny_model(DType::kQ4_0), options_for(DType::kBF16));
  EXPECT_NE(refusal_of(other_type, bytes()).find("weights"), std::string::npos);
  Engine other_cache(tiny_model(), options_for(DType::kF32));
  EXPECT_NE(refusal_of(other_cache, bytes()).find("cache"), std::string::npos);
  ModelConfig config = tiny_config();
  config.num_layers = 3;
  Engine other_shape(tiny_model(DType::kQ8_0, 2, config), options_for(DType::kBF16));
  EXPECT_NE(refusal_of(other_shape, bytes()).find("L3"), std::string::npos);
  EngineOptions small = options_for(DType::kBF16);
  small.max_context = 64;
  small.kv_memory_bytes = 24576;  // five blocks and the trash block
  Engine too_small(tiny_model(), small);
  EXPECT_THROW(too_small.load_session(path()), std::runtime_error);
  EXPECT_EQ(answer(too_small, {1, 2, 3}).cached, 0);
}

TEST_F(SavedSession, IsRefusedWhereverAByteIsChangedOrMissing) {
  Engine engine(tiny_model(), options_for(DType::kBF16));
  const std::string whole = bytes();
  for (std::size_t at = 0; at < whole.size(); at += at < 1000 ? 1 : 997) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    EXPECT_NE(refusal_of(engine, changed), "") << "byte " << at;
  }
  for (std::size_t size = 0; size < whole.size(); size += size < 1000 ? 7 : 1499)
    EXPECT_NE(refusal_of(engine, whole.substr(0, size)), "") << size << " bytes";
  EXPECT_NE(refusal_of(engine, whole + "x"), "");
  EXPECT_EQ(answer(engine, prompt_).cached, 0) << "nothing of a refused file is used";
  EXPECT_EQ(answer(engine, prompt_), first_);
}

TEST_F(SavedSession, ThatIsNotThereOrCannotBeWrittenIsNamed) {
  Engine engine(tiny_model(), options_for(DType::kBF16));
  EXPECT_THROW(engine.load_session("no-such-session"), ModelFileError);
  EXPECT_THROW(engine.save_session(prompt_, "/no-such-folder/session"), std::runtime_error);
  EXPECT_FALSE(std::filesystem::exists("/no-such-folder"));
}

}  // namespace
}  // namespace redline
