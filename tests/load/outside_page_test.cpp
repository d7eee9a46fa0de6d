// Pages of our own making, in the form of each server and version.
#include "tools/load/outside_page.h"

#include <gtest/gtest.h>

#include "engine/model_shapes.h"

namespace redline::load {
namespace {

using Steps = OutsideCounts::Steps;

std::string vllm_page(int prompt, int generated, int first_tokens, int steps, const std::string& more) {
  const std::string labels = "{engine=\"0\",model_name=\"some/model\"} ";
  const auto line = [&](const char* name, int value) {
    return name + labels + std::to_string(value) + ".0\n";
  };
  return "# HELP vllm:num_requests_running Number of requests in model execution batches.\n" +
         line("vllm:num_requests_running", 0) + line("vllm:num_requests_waiting", 0) +
         line("vllm:prompt_tokens_total", prompt) + line("vllm:generation_tokens_total", generated) +
         line("vllm:time_to_first_token_seconds_count", first_tokens) +
         line("vllm:iteration_tokens_total_count", steps) +
         line("vllm:iteration_tokens_total_sum", prompt + generated) + more;
}

OutsideCounts between(const std::string& before, const std::string& after, const ServerLimits& limits = {}) {
  const auto counts = counts_between(MetricsPage(before), MetricsPage(after), limits);
  EXPECT_TRUE(counts.has_value());
  return counts.value_or(OutsideCounts{});
}

TEST(OutsidePage, ReadsWhatVllmCounts) {
  const auto hits = [](int tokens) {
    return "vllm:prefix_cache_hits_total{engine=\"0\"} " + std::to_string(tokens) + "\n";
  };
  const std::string before = vllm_page(1000, 500, 10, 400, hits(64)),
                    after = vllm_page(1900, 650, 13, 470, hits(96));
  const OutsideCounts counts = between(before, after, {.most_rows = 2048, .longest = 4096});
  EXPECT_EQ(counts.computed_prompt_tokens, (Range{868, 868})) << "900 less 32 cached";
  EXPECT_EQ(counts.cached_prompt_tokens, (Range{32, 32}));
  EXPECT_EQ(counts.generated_tokens, 150);
  EXPECT_EQ(counts.requests, (Range{3, 3}));
  EXPECT_EQ(counts.counted_steps, Steps::kThoseWithTokens);
  EXPECT_EQ(counts.num_steps, 70);
  EXPECT_EQ(counts.longest, 900 + 150 - 3) << "all in one sequence is less than the limit";

  // Llama-3.1-8B by hand: 6,979,321,856 weights of projections and FFN; 868 + 150 - 3 rows; 150 rows of
  // logits.
  const auto config = named_shape("llama-3.1-8b");
  ASSERT_TRUE(config);
  const Estimate estimate(*config, stored_weights(*config, DType::kBF16), DType::kBF16,
                          Estimate::bf16_compute);
  const OutsideWork work = outside_work(counts, estimate);
  EXPECT_EQ(work.lower.projections + work.lower.ffn, 2 * 1015 * std::int64_t{6'979'321'856});
  EXPECT_EQ(work.upper.projections + work.upper.ffn, 2 * 1015 * std::int64_t{6'979'321'856});
  EXPECT_EQ(work.lower.head, 150 * std::int64_t{2} * 4096 * 128256);
  EXPECT_EQ(work.upper.kv_write, 1015 * 131072);
  EXPECT_EQ(work.steps, (Range{70, 70})) << "868 tokens fill no step of 2,048";
  // 70 times all weights but the embedding: bf16 matrices, f32 norms; 1,015 rows gathered.
  EXPECT_EQ(work.lower.weights,
            70 * (2 * std::int64_t{6'979'321'856} + 2 * 4096 * std::int64_t{128256} + 4 * 65 * 4096) +
                1015 * 2 * 4096);
}

TEST(OutsidePage, TakesVllmsOwnCountOfCachedTokensAndItsEstimates) {
  const auto more = [](int cached, int hits, const char* flops) {
    return "vllm:prompt_tokens_cached_total{engine=\"0\"} " + std::to_string(cached) +
           "\nvllm:prefix_cache_hits_total{engine=\"0\"} " + std::to_string(hits) +
           "\nvllm:estimated_flops_per_gpu_total{engine=\"0\"} " + flops +
           "\nvllm:estimated_read_bytes_per_gpu_total{engine=\"0\"} 5e9"
           "\nvllm:estimated_write_bytes_per_gpu_total{engine=\"0\"} 1e9\n";
  };
  const MetricsPage before(vllm_page(0, 0, 0, 0, more(0, 0, "1e12"))),
      after(vllm_page(100, 20, 2, 12, more(48, 64, "3.5e12")));
  const auto counts = counts_between(before, after, {});
  ASSERT_TRUE(counts);
  EXPECT_EQ(counts->cached_prompt_tokens, (Range{48, 48})) << "hits may be of prompts that have no token yet";
  const OutsideView view = view_between(before, after, *counts, 2);
  EXPECT_EQ(view.server, "vllm");
  EXPECT_EQ(view.own_flops, 2.5e12);
  EXPECT_EQ(view.own_bytes, 0.0);
  EXPECT_EQ(view.num_running, 0.0);
}

TEST(OutsidePage, BoundsWhatOldVllmDoesNotTell) {
  const OutsideCounts none = between(vllm_page(0, 0, 0, 0, ""), vllm_page(100, 20, 4, 12, ""));
  EXPECT_EQ(none.cached_prompt_tokens, (Range{0, 96})) << "each prompt computes a token at least";
  EXPECT_EQ(none.computed_prompt_tokens, (Range{4, 100}));
  // 0.8 counts hits under a name whose unit changed: 0 is 0 in each.
  const OutsideCounts no_hits =
      between(vllm_page(0, 0, 0, 0, ""),
              vllm_page(100, 20, 4, 12, "vllm:gpu_prefix_cache_hits_total{engine=\"0\"} 0.0\n"));
  EXPECT_EQ(no_hits.cached_prompt_tokens, (Range{0, 0}));
  const OutsideCounts hits =
      between(vllm_page(0, 0, 0, 0, ""),
              vllm_page(100, 20, 4, 12, "vllm:gpu_prefix_cache_hits_total{engine=\"0\"} 3.0\n"));
  EXPECT_EQ(hits.cached_prompt_tokens, (Range{0, 96}));
}

TEST(OutsidePage, LengthHistogramsBoundTheLongestSequence) {
  const auto histograms = [](int count) {
    const std::string n = std::to_string(count);
    return "vllm:request_prompt_tokens_bucket{le=\"20.0\"} "
           "0.0\nvllm:request_prompt_tokens_bucket{le=\"50.0\"} " +
           n + ".0\nvllm:request_prompt_tokens_bucket{le=\"+Inf\"} " + n +
           ".0\nvllm:request_prompt_tokens_count " + n +
           ".0\nvllm:request_generation_tokens_bucket{le=\"10.0\"} " + n +
           ".0\nvllm:request_generation_tokens_bucket{le=\"+Inf\"} " + n +
           ".0\nvllm:request_generation_tokens_count " + n + ".0\n";
  };
  EXPECT_EQ(between(vllm_page(0, 0, 0, 0, histograms(0)), vllm_page(100, 20, 4, 12, histograms(4)),
                    {.longest = 100})
                .longest,
            50 + 10 - 1);
  EXPECT_EQ(between(vllm_page(0, 0, 0, 0, histograms(0)), vllm_page(100, 20, 4, 12, histograms(3)),
                    {.longest = 100})
                .longest,
            100)
      << "one has not ended: it is in no histogram";
}

TEST(OutsidePage, ReadsWhatSglangCounts) {
  const auto page = [](int prompt, int generated, int cached, int requests) {
    const std::string labels = "{model_name=\"some/model\",tp_rank=\"0\"} ";
    return "sglang:num_running_reqs" + labels + "2.0\nsglang:num_queue_reqs" + labels +
           "1.0\nsglang:prompt_tokens_total" + labels + std::to_string(prompt) +
           ".0\nsglang:generation_tokens_total" + labels + std::to_string(generated) +
           ".0\nsglang:cached_tokens_total{cache_source=\"device\",model_name=\"some/model\"} " +
           std::to_string(cached) + ".0\nsglang:num_requests_total" + labels + std::to_string(requests) +
           ".0\nsglang:time_to_first_token_seconds_count" + labels + "9.0\nsglang:spec_accept_length" +
           labels + "0.0\n";
  };
  const OutsideCounts counts =
      between(page(10, 5, 0, 1), page(510, 85, 100, 5), {.most_sequences = 4, .longest = 200});
  EXPECT_EQ(counts.computed_prompt_tokens, (Range{400, 400}));
  EXPECT_EQ(counts.cached_prompt_tokens, (Range{100, 100}));
  EXPECT_EQ(counts.generated_tokens, 80);
  EXPECT_EQ(counts.requests, (Range{4, 4})) << "of those that ended, as the tokens are";
  EXPECT_EQ(counts.counted_steps, Steps::kNotCounted);
  EXPECT_FALSE(counts.drafts);
  const auto config = named_shape("llama-3.1-8b");
  const Estimate estimate(*config, stored_weights(*config, DType::kBF16), DType::kBF16,
                          Estimate::bf16_compute);
  EXPECT_EQ(outside_work(counts, estimate).steps, (Range{19, 476}))
      << "76 tokens of 4 sequences at a time; a step for each of the 476 rows";
  EXPECT_EQ(
      view_between(MetricsPage(page(10, 5, 0, 1)), MetricsPage(page(510, 85, 100, 5)), counts, 1).num_waiting,
      1.0);
}

TEST(OutsidePage, ReadsWhatLlamaCppCounts) {
  const auto page = [](int prompt, int generated, int decodes, int longest, const std::string& more) {
    return "llamacpp:prompt_tokens_total " + std::to_string(prompt) + "\nllamacpp:tokens_predicted_total " +
           std::to_string(generated) + "\nllamacpp:n_decode_total " + std::to_string(decodes) +
           "\nllamacpp:n_tokens_max " + std::to_string(longest) +
           "\nllamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n" + more;
  };
  const OutsideCounts counts =
      between(page(6, 5, 5, 10, "llamacpp:prompt_tokens_cached_total 0\n"),
              page(7, 10, 10, 11, "llamacpp:prompt_tokens_cached_total 6\n"), {.longest = 8192});
  EXPECT_EQ(counts.computed_prompt_tokens, (Range{1, 1})) << "it counts them without those cached";
  EXPECT_EQ(counts.cached_prompt_tokens, (Range{6, 6}));
  EXPECT_EQ(counts.requests, (Range{1, 1})) << "not told, but a prompt's token is computed for each";
  EXPECT_EQ(counts.num_steps, 5);
  EXPECT_EQ(counts.counted_steps, Steps::kAll);
  EXPECT_EQ(counts.longest, 11);
  const OutsideCounts old = between(page(0, 0, 0, 0, ""), page(30, 12, 9, 40, ""));
  EXPECT_EQ(old.requests, (Range{1, 12}));
  EXPECT_EQ(old.cached_prompt_tokens, (Range{0, 12 * 39}));
}

TEST(OutsidePage, KnowsNoOtherPageAndNoneOfAServerStartedAnew) {
  EXPECT_EQ(server_of(MetricsPage("python_info 1\n")), "");
  EXPECT_FALSE(counts_between(MetricsPage(""), MetricsPage("python_info 1\n"), {}));
  EXPECT_FALSE(
      counts_between(MetricsPage(vllm_page(100, 9, 1, 5, "")), MetricsPage(vllm_page(20, 3, 1, 2, "")), {}));
}

RequestRecord record(std::int64_t prompt, std::int64_t cached, std::int64_t output, bool tells_cached) {
  RequestRecord record;
  record.completed = true;
  record.sent_s = 0;
  record.chunks_s = {1, 2};
  record.prompt_tokens = prompt;
  record.cached_tokens = cached;
  record.output_tokens = output;
  record.tells_cached = tells_cached;
  return record;
}

OutsideCounts told_by(const DriveResult& outcome) {
  const auto counts = counts_of(outcome, {});
  EXPECT_TRUE(counts.has_value());
  return counts.value_or(OutsideCounts{});
}

TEST(OutsidePage, TheLoadGeneratorsLengthsCountWhereTheServerTellsOfNoOthers) {
  DriveResult outcome;
  outcome.records = {record(60, 0, 12, false), record(40, 0, 8, false)};
  const std::string hits = "vllm:prefix_cache_hits_total{engine=\"0\"} ";
  outcome.page_before = vllm_page(0, 0, 0, 0, hits + "0\n");
  outcome.page_after = vllm_page(100, 20, 2, 12, hits + "0\n");
  const OutsideCounts counts = told_by(outcome);
  ASSERT_EQ(counts.lengths.size(), 2u);
  EXPECT_TRUE(counts.lengths_tell_cached) << "none was";
  EXPECT_EQ(counts.longest, 71);
  EXPECT_EQ(counts.num_steps, 12);
  EXPECT_EQ(counts.most_sequences, 2);

  outcome.page_after = vllm_page(100, 20, 2, 12, hits + "16\n");
  EXPECT_FALSE(told_by(outcome).lengths_tell_cached) << "in whose prompt is not told";
  EXPECT_EQ(told_by(outcome).lengths.size(), 2u);
  outcome.page_after = vllm_page(130, 25, 3, 12, hits + "0\n");
  EXPECT_TRUE(told_by(outcome).lengths.empty()) << "somebody else asked too";
  EXPECT_EQ(told_by(outcome).generated_tokens, 25);
}

TEST(OutsidePage, WithoutAPageTheRequestsAreAllThatIsKnown) {
  DriveResult outcome;
  outcome.records = {record(60, 16, 12, true), record(40, 0, 8, true)};
  const OutsideCounts told = told_by(outcome);
  EXPECT_EQ(told.computed_prompt_tokens, (Range{84, 84}));
  EXPECT_TRUE(told.lengths_tell_cached);
  EXPECT_EQ(told.counted_steps, Steps::kNotCounted);
  outcome.records[1].tells_cached = false;
  const OutsideCounts untold = told_by(outcome);
  EXPECT_EQ(untold.cached_prompt_tokens, (Range{0, 98}));
  EXPECT_FALSE(untold.lengths_tell_cached);
  outcome.records[0].completed = false;
  EXPECT_FALSE(counts_of(outcome, {}).has_value()) << "what a failed request cost is not known";
}

}  // namespace
}  // namespace redline::load
