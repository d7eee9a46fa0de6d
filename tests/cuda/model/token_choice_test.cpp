// Tokens chosen on the device against the host's sampler: the same parameters, seeds and logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "engine/constraint/constraint.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "kernels/cuda_ops.h"
#include "kernels/token_sampling.h"
#include "tests/engine/tiny_model.h"

namespace redline {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<SamplingParams> all_kinds(std::int32_t vocabulary) {
  std::vector<SamplingParams> kinds = {
      {},
      {.temperature = 1},
      {.temperature = 0.6f, .top_k = 20},
      {.temperature = 1.3f, .top_k = 1},
      {.temperature = 0.9f, .top_k = vocabulary},
      {.temperature = 1, .top_p = 0.9f},
      {.temperature = 1, .top_p = 0},
      {.temperature = 0.8f, .top_k = 40, .top_p = 0.7f},
      {.temperature = 2, .min_p = 0.05f},
      {.temperature = 1.5f, .top_k = 9, .top_p = 0.95f, .min_p = 0.01f},
      {.temperature = 1e-6f},
      {.repetition_penalty = 1.3f},
      {.temperature = 1, .repetition_penalty = 0.8f, .presence_penalty = 0.5f, .frequency_penalty = 0.25f},
      {.temperature = 0.7f, .logit_bias = {{3, 2.5f}, {vocabulary - 1, -1.0f}, {3, 0.5f}}, .min_tokens = 3},
      {.num_logprobs = 0},
      {.temperature = 1, .top_p = 0.8f, .presence_penalty = 1, .num_logprobs = 5},
      {.temperature = 1, .num_logprobs = vocabulary}};
  for (std::size_t i = 0; i < kinds.size(); ++i) kinds[i].seed = 1000 + i;
  return kinds;
}

class TokenChoiceTest : public testing::Test {
 protected:
  /// What the device chooses of `logits` [R, V].
  std::vector<ChosenToken> choose(const std::vector<float>& logits, std::int64_t vocabulary,
                                  const std::vector<ChoiceRequest>& requests) {
    Buffer buffer = ops_->allocate(logits.size() * sizeof(float));
    ops_->upload(buffer.data(), logits.data(), logits.size() * sizeof(float));
    sampling_->choose(f32_view(buffer.data(), std::ssize(logits) / vocabulary, vocabulary), requests);
    std::vector<ChosenToken> chosen = sampling_->chosen();
    std::vector<float> after(logits.size());
    ops_->download(after.data(), buffer.data(), logits.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(after.data(), logits.data(), logits.size() * sizeof(float)), 0)
        << "the logits stay as they are";
    return chosen;
  }

  std::unique_ptr<Ops> ops_ = make_cuda_ops({});
  TokenSampling* sampling_ = dynamic_cast<TokenSampling*>(ops_.get());
};

void expect_same(const Sampler::Choice& got, const Sampler::Choice& want) {
  EXPECT_EQ(got.token, want.token);
  ASSERT_EQ(got.logprobs.size(), want.logprobs.size());
  for (std::size_t i = 0; i < want.logprobs.size(); ++i) {
    EXPECT_EQ(got.logprobs[i].token, want.logprobs[i].token) << i;
    EXPECT_FLOAT_EQ(got.logprobs[i].logprob, want.logprobs[i].logprob) << i;
  }
}

// Several answers at once, two of them from one row, for some steps each.
TEST_F(TokenChoiceTest, ChoosesTheTokensOfTheHostsSampler) {
  for (const std::int32_t vocabulary : {41, 1003, 9000}) {
    std::mt19937 random(static_cast<unsigned>(vocabulary));
    std::normal_distribution<float> normal(0, 3);
    const std::vector<SamplingParams> kinds = all_kinds(vocabulary);
    const std::vector<std::int32_t> prompt = {1, 5, 5, 7, 40}, end_tokens = {2, 9};
    std::vector<Sampler> on_host, on_device;
    for (const SamplingParams& params : kinds) {
      on_host.emplace_back(params, 1, prompt, end_tokens);
      on_device.emplace_back(params, 1, prompt, end_tokens);
    }
    TokenMask mask(static_cast<std::size_t>(vocabulary));
    for (std::int32_t token = 0; token < vocabulary; token += 1 + token % 3) mask.set(token);
    for (int step = 0; step < 6; ++step) {
      const std::size_t num_rows = kinds.size() / 2;
      std::vector<float> logits(num_rows * static_cast<std::size_t>(vocabulary));
      for (float& logit : logits) {
        logit = normal(random);
        if (random() % 4 == 0) logit = std::round(logit);  // equals
      }
      logits[4] = -kInfinity;
      std::vector<ChoiceRequest> requests;
      const auto mask_of = [&](std::size_t i) {
        return (i + static_cast<std::size_t>(step)) % 3 == 0 ? &mask : nullptr;
      };
      for (std::size_t i = 0; i < kinds.size(); ++i)
        requests.push_back(on_device[i].ask(static_cast<std::int32_t>(i % num_rows),
                                            static_cast<std::size_t>(vocabulary), mask_of(i), i % 2 == 0));
      const std::vector<ChosenToken> chosen = choose(logits, vocabulary, requests);
      for (std::size_t i = 0; i < kinds.size(); ++i) {
        SCOPED_TRACE(testing::Message()
                     << "vocabulary " << vocabulary << ", kind " << i << ", step " << step);
        const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(i % num_rows) * vocabulary;
        std::vector<float> row(begin, begin + vocabulary);
        expect_same(on_device[i].take(chosen[i]), on_host[i].sample(row, mask_of(i), i % 2 == 0));
      }
    }
  }
}

TEST_F(TokenChoiceTest, SaysWhatTheHostsSamplerSaysOfBrokenRows) {
  constexpr std::int32_t kVocabulary = 300;
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    std::vector<float> logits(kVocabulary, broken == -kInfinity ? broken : 0.5f);
    logits[17] = broken;
    TokenMask mask(kVocabulary);
    mask.set(3);
    for (const SamplingParams& params :
         {SamplingParams{}, SamplingParams{.temperature = 1, .top_p = 0.5f},
          SamplingParams{.repetition_penalty = 1.2f}, SamplingParams{.num_logprobs = 2},
          SamplingParams{.logit_bias = {{17, 1.0f}}}})
      for (const TokenMask* allowed :
           {static_cast<const TokenMask*>(nullptr), static_cast<const TokenMask*>(&mask)}) {
        Sampler on_host(params, 0, {}, {}), on_device(params, 0, {}, {});
        std::vector<float> row = logits;
        const auto chosen = choose(logits, kVocabulary, {on_device.ask(0, kVocabulary, allowed)});
        EXPECT_EQ(on_device.take(chosen[0]).token, -1);
        EXPECT_EQ(on_host.sample(row, allowed).token, -1);
      }
  }
}

// Through the engine: parallel answers of one prompt, penalties and logprobs, decode steps captured; against
// the reference, whose logits the host chooses from.
TEST_F(TokenChoiceTest, GivesAnEngineTheTokensThatTheHostWouldHaveChosen) {
  const auto generate = [](bool on_device) {
    auto model = std::make_shared<LoadedModel>();
    model->config = tiny_config();
    CudaOptions options;
    options.activation_dtype = DType::kF32;
    model->ops = on_device ? make_cuda_ops(options) : make_reference_ops();
    model->weights =
        std::make_unique<ModelWeights>(random_weights(model->config, DType::kQ8_0, *model->ops, 7));
    Engine engine(model, {.kv_dtype = DType::kF32, .max_context = 80, .max_sequences = 6});
    Request request;
    request.prompt = random_tokens(20, 3, model->config.vocab_size);
    request.n = 3;
    request.sampling = {.temperature = 1.2f,
                        .top_k = 50,
                        .top_p = 0.95f,
                        .repetition_penalty = 1.1f,
                        .frequency_penalty = 0.2f,
                        .seed = 11,
                        .max_tokens = 12,
                        .ignore_eos = true,
                        .num_logprobs = 2};
    std::vector<std::vector<std::int32_t>> tokens(3);
    const auto stream = engine.submit(request);
    while (const auto event = stream->next()) {
      EXPECT_EQ(event->error, "");
      auto& of_answer = tokens[static_cast<std::size_t>(event->index)];
      of_answer.insert(of_answer.end(), event->token_ids.begin(), event->token_ids.end());
      for (const auto& each : event->logprobs) EXPECT_EQ(each.size(), 3u);
    }
    for (const auto& each : tokens) EXPECT_EQ(each.size(), 12u);
    return tokens;
  };
  const auto on_device = generate(true);
  EXPECT_EQ(on_device, generate(false));
  EXPECT_NE(on_device[0], on_device[1]);
}

}  // namespace
}  // namespace redline
