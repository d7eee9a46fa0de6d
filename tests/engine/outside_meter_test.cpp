#include "engine/meter/outside_meter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/meter/hardware.h"
#include "tests/engine/tiny_llama.h"

namespace redline {
namespace {

Estimate tiny_estimate(bool tied, std::int64_t window = 0) {
  ModelConfig config = tiny_config();
  config.tied_embeddings = tied;
  if (window > 0) {
    config.layers.resize(static_cast<std::size_t>(config.num_layers));
    config.layers[0].window = window;
  }
  return Estimate(config, stored_weights(config, DType::kQ4_0), DType::kBF16, Estimate::bf16_compute);
}

/// What a server does that fills steps of `most_rows` with one token of each sequence that decodes, then with
/// prompts, the last of which it cuts.
struct Server {
  std::int64_t most_rows, most_sequences;
  std::vector<RequestLengths> requests;
  Work work{};
  std::int64_t num_steps = 0, num_with_tokens = 0;

  void run(const Estimate& estimate) {
    struct Sequence {
      std::int64_t computed, prompt, end;
    };
    std::vector<Sequence> running;
    std::size_t next = 0;
    while (next < requests.size() || !running.empty()) {
      while (next < requests.size() && static_cast<std::int64_t>(running.size()) < most_sequences) {
        const RequestLengths& r = requests[next++];
        running.push_back({r.cached, r.prompt, r.prompt + r.generated - 1});
      }
      std::int64_t left = most_rows;
      std::vector<SequenceShape> shapes;
      bool yields = false;
      for (const bool decodes : {true, false})
        for (Sequence& each : running) {
          if ((each.computed >= each.prompt) != decodes || left == 0 || each.computed >= each.end) continue;
          const std::int64_t rows = decodes ? 1 : std::min(left, each.prompt - each.computed);
          const bool token = each.computed + rows >= each.prompt;
          shapes.push_back({each.computed, rows, token ? 1 : 0});
          yields |= token;
          each.computed += decodes ? rows : 0;
          if (!decodes) each.computed = -(each.computed + rows);  // decodes from the next step on
          left -= rows;
        }
      for (Sequence& each : running) each.computed = std::abs(each.computed);
      work += estimate.step(shapes);
      ++num_steps;
      num_with_tokens += yields ? 1 : 0;
      std::erase_if(running, [](const Sequence& each) { return each.computed >= each.end; });
    }
  }

  OutsideCounts counts(std::int64_t longest) const {
    OutsideCounts counts;
    std::int64_t prompt = 0, cached = 0;
    for (const RequestLengths& each : requests) {
      prompt += each.prompt;
      cached += each.cached;
      counts.generated_tokens += each.generated;
    }
    const auto num = static_cast<std::int64_t>(requests.size());
    counts.computed_prompt_tokens = {prompt - cached, prompt - cached};
    counts.cached_prompt_tokens = {cached, cached};
    counts.requests = {num, num};
    counts.longest = longest;
    return counts;
  }
};

constexpr std::int64_t Work::*kParts[] = {&Work::projections, &Work::attention, &Work::ffn,     &Work::head,
                                          &Work::weights,     &Work::kv_read,   &Work::kv_write};

void expect_holds(const OutsideCounts& counts, const Estimate& estimate, const Server& server) {
  const OutsideWork seen = outside_work(counts, estimate);
  EXPECT_LE(seen.steps.lower, server.num_steps);
  EXPECT_GE(seen.steps.upper, server.num_steps);
  for (std::size_t i = 0; i < std::size(kParts); ++i) {
    EXPECT_LE(seen.lower.*kParts[i], server.work.*kParts[i]) << "part " << i;
    EXPECT_GE(seen.upper.*kParts[i], server.work.*kParts[i]) << "part " << i;
  }
}

TEST(OutsideMeter, BoundsHoldTheTruthOfRandomServersWhateverIsTold) {
  for (unsigned seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto draw = [&](std::int64_t low, std::int64_t high) {
      return std::uniform_int_distribution<std::int64_t>(low, high)(random);
    };
    const Estimate estimate = tiny_estimate(draw(0, 1) == 1, draw(0, 2) == 0 ? draw(1, 30) : 0);
    Server server{.most_rows = draw(5, 90), .most_sequences = draw(1, 5), .requests = {}};
    const bool caches = draw(0, 1) == 1;
    std::int64_t longest = 0;
    for (std::int64_t i = draw(1, 12); i > 0; --i) {
      RequestLengths each{.prompt = draw(1, 70), .generated = draw(1, 25)};
      if (caches) each.cached = draw(0, each.prompt - 1);
      longest = std::max(longest, each.prompt + each.generated - 1);
      server.requests.push_back(each);
    }
    server.run(estimate);
    for (const auto steps : {OutsideCounts::Steps::kNotCounted, OutsideCounts::Steps::kThoseWithTokens,
                             OutsideCounts::Steps::kAll})
      for (int told = 0; told < 64; ++told) {
        SCOPED_TRACE("steps " + std::to_string(static_cast<int>(steps)) + ", told " + std::to_string(told));
        OutsideCounts counts = server.counts(longest + draw(0, 40));
        counts.counted_steps = steps;
        counts.num_steps = steps == OutsideCounts::Steps::kAll ? server.num_steps : server.num_with_tokens;
        const std::int64_t cached = counts.cached_prompt_tokens.lower,
                           prompt = cached + counts.computed_prompt_tokens.lower;
        if (told & 1) counts.most_rows = server.most_rows;
        if (told & 2) counts.most_sequences = server.most_sequences;
        if (told & 4) counts.requests = {1, std::min(prompt - cached, counts.generated_tokens)};
        if (told & 8) {
          counts.cached_prompt_tokens = {cached / 2, prompt - counts.requests.lower};
          counts.computed_prompt_tokens = {prompt - counts.cached_prompt_tokens.upper, prompt - cached / 2};
        }
        if (told & 16) {
          const auto num = static_cast<std::int64_t>(server.requests.size());
          counts.requests = {num, num};
          counts.lengths = server.requests;
          counts.lengths_tell_cached = !(told & 8);
          if (told & 8)
            for (RequestLengths& each : counts.lengths) each.cached = 0;
        }
        if (told & 32) counts.drafts = true;
        expect_holds(counts, estimate, server);
      }
    if (HasFailure()) return;
  }
}

TEST(OutsideMeter, IsExactWhereLengthsAndStepsAreTold) {
  const Estimate estimate = tiny_estimate(/*tied=*/true, 20);
  Server server{
      .most_rows = 200, .most_sequences = 3, .requests = {{40, 0, 9}, {17, 0, 1}, {60, 0, 30}, {5, 0, 4}}};
  server.run(estimate);
  OutsideCounts counts = server.counts(89);
  counts.lengths = server.requests;
  counts.lengths_tell_cached = true;
  counts.most_rows = server.most_rows;
  counts.counted_steps = OutsideCounts::Steps::kThoseWithTokens;
  counts.num_steps = server.num_with_tokens;
  const OutsideWork seen = outside_work(counts, estimate);
  for (std::size_t i = 0; i < std::size(kParts); ++i) {
    EXPECT_EQ(seen.lower.*kParts[i], server.work.*kParts[i]) << "part " << i;
    EXPECT_EQ(seen.upper.*kParts[i], server.work.*kParts[i]) << "part " << i;
  }
}

TEST(OutsideMeter, FlopsButAttentionsNeedTokenCountsAlone) {
  const Estimate estimate = tiny_estimate(/*tied=*/false);
  Server server{.most_rows = 32, .most_sequences = 4, .requests = {{50, 8, 9}, {70, 0, 20}, {3, 1, 2}}};
  server.run(estimate);
  const OutsideWork seen = outside_work(server.counts(128), estimate);
  for (const auto part : {&Work::projections, &Work::ffn, &Work::head, &Work::kv_write}) {
    EXPECT_EQ(seen.lower.*part, server.work.*part);
    EXPECT_EQ(seen.upper.*part, server.work.*part);
  }
  EXPECT_LT(seen.lower.attention, seen.upper.attention);
  EXPECT_LT(seen.lower.weights, seen.upper.weights);
}

TEST(OutsideMeter, SaysOfEachFigureHowItIsKnown) {
  const Estimate estimate = tiny_estimate(/*tied=*/true);
  OutsideView view;
  view.server = "vllm";
  view.counts.computed_prompt_tokens = {10, 10};
  view.counts.generated_tokens = 5;
  view.counts.requests = {1, 1};
  view.counts.longest = 14;
  view.wall_s = 2;
  view.device = {.name = "NVIDIA H100 SXM", .peaks = find_hardware("h100")->peaks()};
  view.work = outside_work(view.counts, estimate);
  const auto json = to_json(view);
  EXPECT_EQ(json.at("counts").at("generated_tokens").dump(), R"({"label":"counted","lower":5,"upper":5})");
  EXPECT_EQ(json.at("flops").at("ffn").at("label"), "derived");
  EXPECT_EQ(json.at("flops").at("attention").at("label"), "derived") << "one request: 10 + 5 - 1 tokens";
  EXPECT_EQ(json.at("flops").at("attention").at("lower"), 4 * 64 * 2 * 14 * 15 / 2);
  EXPECT_EQ(json.at("counts").at("steps").at("label"), "bounded");
  EXPECT_EQ(json.at("bytes").at("weights").at("label"), "bounded");
  EXPECT_EQ(json.at("mbu").at("label"), "bounded");
  EXPECT_DOUBLE_EQ(json.at("mfu").at("lower"), static_cast<double>(view.work.lower.flops()) / 989.4e12 / 2);
  const std::string text = to_text(view);
  EXPECT_NE(text.find("vllm seen from outside, on NVIDIA H100 SXM"), std::string::npos) << text;
  EXPECT_NE(text.find("bounded"), std::string::npos);
  view.device.peaks = {};
  EXPECT_TRUE(to_json(view).at("mfu").is_null() && to_json(view).at("mbu").is_null()) << "no peak, no share";
}

}  // namespace
}  // namespace redline
