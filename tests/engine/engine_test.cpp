#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>
#include <random>
#include <thread>

#include "engine/constraint/constraint.h"
#include "engine/constraint/gbnf.h"
#include "engine/evaluate.h"
#include "engine/meter/utilization.h"
#include "engine/meter/waterfall.h"
#include "engine/sampler.h"
#include "tests/engine/tiny_model.h"

namespace redline {
namespace {

using Tokens = std::vector<std::int32_t>;

// Every token of one answer with its log-probabilities: equal only where the logits were.
struct Trace {
  Tokens tokens;
  std::vector<float> logprobs;
  FinishReason reason = FinishReason::kNone;
  std::string error;
  bool operator==(const Trace&) const = default;
};

std::vector<Trace> collect(Stream& stream, std::int32_t n = 1) {
  std::vector<Trace> traces(static_cast<std::size_t>(n));
  while (const auto event = stream.next()) {
    Trace& trace = traces[static_cast<std::size_t>(event->index)];
    trace.tokens.insert(trace.tokens.end(), event->token_ids.begin(), event->token_ids.end());
    for (const auto& token : event->logprobs)
      for (const TokenLogprob& entry : token) trace.logprobs.push_back(entry.logprob);
    EXPECT_EQ(trace.reason, FinishReason::kNone) << "nothing follows the last event";
    trace.reason = event->finish_reason;
    trace.error = event->error;
  }
  return traces;
}

Request request_of(Tokens prompt, std::int32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.max_tokens = max_tokens;
  request.sampling.num_logprobs = 3;
  return request;
}

// Brackets that nest, over a vocabulary of brackets, commas and letters; a text never has to end.
std::shared_ptr<Constraint> brackets() {
  std::vector<std::string> texts;
  for (int id = 0; id < 211; ++id)
    texts.push_back(id % 7 < 3 ? std::string(1, "[],"[id % 7])
                               : std::string(1, static_cast<char>('a' + id % 26)));
  return std::make_shared<Constraint>(
      parse_gbnf("root ::= item+\nitem ::= \"[\" (item (\",\" item)*)? \"]\" | [a-z]"),
      std::make_shared<ConstraintVocabulary>(texts),
      std::chrono::steady_clock::now() + std::chrono::seconds(20));
}

EngineOptions small_options() {
  EngineOptions options;
  options.max_context = 512;
  options.max_batched_tokens = 64;
  options.max_sequences = 8;
  return options;
}

TEST(Engine, GeneratesTheNumberOfTokensAskedFor) {
  Engine engine(tiny_model(), small_options());
  const auto stream = engine.submit(request_of({1, 2, 3}, 9));
  const Trace trace = collect(*stream)[0];
  EXPECT_EQ(trace.tokens.size(), 9u);
  EXPECT_EQ(trace.reason, FinishReason::kLength);
  EXPECT_TRUE(stream->finished());
  EXPECT_EQ(stream->usage().generated_tokens, 9);
  EXPECT_EQ(stream->usage().decode.tokens, 8) << "prefill yields the first token";
}

TEST(Engine, StopsAtTheEndOfTheContext) {
  EngineOptions options = small_options();
  options.max_context = 40;
  Engine engine(tiny_model(), options);
  const auto stream = engine.submit(request_of(random_tokens(30, 1, 211), -1));
  EXPECT_EQ(collect(*stream)[0].tokens.size(), 10u);
}

// The promise of the whole engine: what a request computes does not depend on what runs beside it, how its
// prompt is chunked, what the prefix cache held, whether it was preempted, or how many threads ran.
TEST(Engine, ResultsAreBitIdenticalWhateverTheCircumstances) {
  const std::uint32_t seed = 20240607;
  std::mt19937 random(seed);
  std::vector<Request> requests;
  const Tokens shared = random_tokens(70, 3, 211);
  for (std::uint32_t i = 0; i < 10; ++i) {
    Tokens prompt(shared.begin(), shared.begin() + (i % 3 == 0 ? 50 : 0));
    const Tokens own = random_tokens(1 + random() % 60, i + 10, 211);
    prompt.insert(prompt.end(), own.begin(), own.end());
    requests.push_back(request_of(prompt, static_cast<std::int32_t>(20 + random() % 60)));
    requests.back().sampling.temperature = i % 2 ? 0.8f : 0.0f;
    requests.back().sampling.seed = i;
    if (i % 4 >= 2) requests.back().constraint = brackets();
  }
  ModelConfig windowed = tiny_config(), mixed = tiny_config();
  windowed.layers = {{true, 37}, {true, 20}};  // blocks are freed
  mixed.layers = {{true, 37}, {false, 0}};
  for (const auto& [dtype, config] : {std::pair{DType::kQ8_0, tiny_config()},
                                      {DType::kBF16, tiny_config()},
                                      {DType::kQ8_0, windowed},
                                      {DType::kBF16, mixed}}) {
    std::vector<Trace> expected;
    {
      EngineOptions alone = small_options();
      alone.max_batched_tokens = 512;
      alone.prefix_cache = false;
      Engine engine(tiny_model(dtype, 1, config), alone);
      for (const Request& request : requests) {
        expected.push_back(collect(*engine.submit(request))[0]);
        if (!request.constraint) continue;
        Matcher matcher(request.constraint);
        for (const std::int32_t token : expected.back().tokens) ASSERT_TRUE(matcher.advance(token));
      }
    }
    std::int64_t num_preemptions = 0;
    for (int trial = 0; trial < 6; ++trial) {
      EngineOptions options = small_options();
      options.max_batched_tokens = std::vector{16, 33, 64, 512, 20, 100}[static_cast<std::size_t>(trial)];
      options.prefix_cache = trial % 2 == 0;
      options.max_sequences = trial == 3 ? 3 : 8;
      if (trial == 4) options.target_tpot_s = 1e-3;  // chunks of any size
      if (trial == 5) options.target_tpot_s = 1e-6;  // nothing keeps it
      if (trial >= 2) {                              // about 20 blocks of 16: preemption
        options.max_context = 0;
        options.kv_memory_bytes = 20 * 16 * 2 * 32 * 2 * 2;
        options.tenant_kv_shares = {{"a", 0.7}};
      }
      Engine engine(tiny_model(dtype, 1 + trial % 3, config), options);
      std::vector<std::unique_ptr<Stream>> streams;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        Request request = requests[i];
        if (trial >= 3) request.tenant = std::vector{"", "a", "b"}[i % 3];
        streams.push_back(engine.submit(request));
      }
      for (std::size_t i = 0; i < requests.size(); ++i)
        EXPECT_EQ(collect(*streams[i])[0], expected[i])
            << "seed " << seed << ", request " << i << ", trial " << trial << ", " << name(dtype);
      num_preemptions += engine.stats().num_preemptions;
      if (trial == 5) {
        EXPECT_EQ(engine.stats().num_late_steps, engine.stats().num_steps);
      }
    }
    if (config.window() == 0) {  // else memory lasts
      EXPECT_GT(num_preemptions, 0);
    }
  }
}

TEST(Engine, ATextLongerThanEveryLayersWindowFreesItsBlocks) {
  ModelConfig config = tiny_config();
  config.layers = {{true, 33}, {true, 20}};
  EngineOptions options = small_options();
  options.kv_memory_bytes = 2 * 512 * 2 * 32 * 2 * 2;
  std::int32_t num_steps = 0;
  Engine* watched = nullptr;
  double most_used = 0, last_used = 0;
  Engine engine(tiny_model(DType::kQ8_0, 1, config), options, [&](const StepRecord& step) {
    if (!watched) return;
    last_used = watched->stats().kv_usage * static_cast<double>(watched->stats().num_blocks);
    most_used = std::max(most_used, last_used);
    if (step.num_decode_tokens > 0) ++num_steps;
  });
  watched = &engine;
  const auto stream = engine.submit(request_of(random_tokens(300, 5, 211), 100));
  EXPECT_EQ(collect(*stream)[0].tokens.size(), 100u);
  EXPECT_EQ(num_steps, 99);
  EXPECT_GE(most_used, 19 - 4)
      << "a prompt takes its blocks at once, and gives up 4 in its first chunk at most";
  EXPECT_LE(last_used, 4) << "33 tokens lie in 4 blocks at most";
}

TEST(Engine, AnswersOfOneRequestDifferAndMatchTheirOwnSeedsAlone) {
  Engine engine(tiny_model(), small_options());
  Request request = request_of(random_tokens(37, 5, 211), 12);
  request.sampling.temperature = 1;
  request.sampling.seed = 4;
  const Trace alone = collect(*engine.submit(request))[0];
  request.n = 4;
  const auto stream = engine.submit(request);
  const auto traces = collect(*stream, 4);
  EXPECT_EQ(traces[0], alone);
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(traces[i].tokens.size(), 12u);
    EXPECT_NE(traces[i].tokens, traces[0].tokens);
  }
  EXPECT_EQ(stream->usage().generated_tokens, 48);
}

TEST(Engine, APrefixIsComputedOnceAndCountedAsCached) {
  Engine engine(tiny_model(), small_options());
  const Tokens prompt = random_tokens(100, 8, 211);
  const auto first = engine.submit(request_of(prompt, 2));
  const Trace expected = collect(*first)[0];
  const auto second = engine.submit(request_of(prompt, 2));
  EXPECT_EQ(collect(*second)[0], expected);
  EXPECT_EQ(first->usage().cached_tokens, 0);
  EXPECT_EQ(second->usage().cached_tokens, 96) << "six whole blocks of 16";
  EXPECT_EQ(second->usage().prefill.tokens, 4);

  Request salted = request_of(prompt, 2);
  salted.cache_salt = "another tenant";
  const auto third = engine.submit(salted);
  EXPECT_EQ(collect(*third)[0], expected);
  EXPECT_EQ(third->usage().cached_tokens, 0);
}

// Of each token but the first, after those before it.
std::vector<float> logprobs_by_evaluation(LoadedModel& model, const Tokens& tokens) {
  std::vector<float> logprobs;
  for_each_logits(model, tokens, {}, [&](std::int64_t t, std::span<const float> logits) {
    if (t + 1 < std::ssize(tokens))
      logprobs.push_back(logprobs_of(logits, tokens[static_cast<std::size_t>(t + 1)], 0)[0].logprob);
  });
  return logprobs;
}

TEST(Engine, PromptLogprobsAreThoseOfEvaluationWhateverTheCircumstances) {
  const Tokens prompt = random_tokens(150, 8, 211), other = random_tokens(90, 9, 211);
  const auto model = tiny_model();
  const std::vector<float> expected = logprobs_by_evaluation(*model, prompt);
  std::int64_t num_preemptions = 0;
  for (const std::int32_t max_batched_tokens : {7, 64, 512}) {
    EngineOptions options = small_options();
    options.max_batched_tokens = max_batched_tokens;
    options.kv_memory_bytes = 25 * 16 * 2 * 32 * 2 * 2;  // 24 blocks of 16, and the trash block
    options.max_context = 0;
    Engine engine(model, options);
    collect(*engine.submit(request_of(prompt, 1)));  // so that its prefix is in the cache
    Request request = request_of(prompt, 12);
    request.sampling.num_prompt_logprobs = 2;
    request.n = 2;
    Request beside = request_of(other, 60);
    const auto grows = engine.submit(beside);
    beside.sampling.num_prompt_logprobs = 0;
    const auto grows_too = engine.submit(beside);
    const auto stream = engine.submit(request);
    std::vector<std::vector<TokenLogprob>> found;
    while (const auto event = stream->next()) {
      if (event->prompt_logprobs.empty()) continue;
      EXPECT_TRUE(found.empty()) << "they come once";
      EXPECT_EQ(event->index, 0);
      EXPECT_EQ(event->token_ids.size(), 1u) << "with the first token";
      found = event->prompt_logprobs;
    }
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i].size(), 3u);
      EXPECT_EQ(found[i][0].token, prompt[i + 1]);
      EXPECT_EQ(found[i][0].logprob, expected[i]) << i;
      EXPECT_GE(found[i][1].logprob, found[i][2].logprob);
      EXPECT_GE(found[i][1].logprob, found[i][0].logprob);
    }
    EXPECT_EQ(stream->usage().cached_tokens, 0) << "what is cached has no logits";
    EXPECT_EQ(collect(*grows)[0], collect(*grows_too)[0]);
    num_preemptions += engine.stats().num_preemptions;
  }
  EXPECT_GT(num_preemptions, 0);
}

TEST(Engine, PromptLogprobsAreChargedTheirRowsOfLogits) {
  const auto model = tiny_model();
  Engine engine(model, small_options());
  Request request = request_of(random_tokens(100, 8, 211), 5);
  const auto plain = engine.submit(request);
  collect(*plain);
  request.use_prefix_cache = false;
  request.sampling.num_prompt_logprobs = 0;
  const auto asked = engine.submit(request);
  collect(*asked);
  constexpr auto kHead = static_cast<std::size_t>(Part::kHead);
  const Counts &few = plain->usage().prefill, &all = asked->usage().prefill;
  EXPECT_EQ(few.flops[kHead], 2 * model->config.hidden_size * model->config.vocab_size);
  EXPECT_EQ(all.flops[kHead], 100 * few.flops[kHead]);
  EXPECT_EQ(all.useful_flops() - few.useful_flops(), 99 * few.flops[kHead]);
  EXPECT_EQ(asked->usage().decode.useful_flops(), plain->usage().decode.useful_flops());
}

TEST(Engine, WithoutATokenToGenerateThePromptAloneIsComputed) {
  Engine engine(tiny_model(), small_options());
  Request request = request_of(random_tokens(40, 8, 211), 0);
  request.sampling.num_prompt_logprobs = 1;
  const auto stream = engine.submit(request);
  const auto event = stream->next();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->finish_reason, FinishReason::kLength);
  EXPECT_TRUE(event->token_ids.empty());
  EXPECT_TRUE(event->logprobs.empty());
  EXPECT_EQ(event->prompt_logprobs.size(), 39u);
  EXPECT_FALSE(stream->next());
  EXPECT_EQ(stream->usage().generated_tokens, 0);
  EXPECT_EQ(stream->usage().prefill.tokens, 40);
  EXPECT_EQ(stream->usage().prefill.wasted_tokens, 0);
}

TEST(Engine, TenantsQueueAndLimitsAreTold) {
  EngineOptions options = small_options();
  options.max_sequences = 1;
  options.max_context = 500;
  options.kv_memory_bytes = 41 * 16 * 2 * 32 * 2 * 2;  // 40 blocks of 16, and the trash block
  options.tenant_kv_shares = {{"small", 0.1}};
  Engine engine(tiny_model(), options);
  Request request = request_of(random_tokens(60, 8, 211), 300);
  const auto running = engine.submit(request);
  ASSERT_TRUE(running->next());
  request.tenant = "small";
  std::vector<std::unique_ptr<Stream>> waiting;
  for (int i = 0; i < 3; ++i) waiting.push_back(engine.submit(request));
  EXPECT_EQ(engine.num_waiting("small"), 3);
  EXPECT_EQ(engine.num_waiting(""), 0);
  waiting[0].reset();
  running->abort();
  EXPECT_EQ(collect(*waiting[1])[0].tokens.size(), 5u) << "of 65 positions four blocks and the last token";
  EXPECT_EQ(collect(*waiting[2])[0].tokens.size(), 5u);
  EXPECT_EQ(engine.num_waiting("small"), 0);
  request.prompt = random_tokens(65, 8, 211);
  try {
    engine.submit(request);
    FAIL() << "it fits no share of four blocks";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(),
                 "the prompt has 65 tokens, the tenant's share of the cache holds 65 with one generated "
                 "token at least");
  }
}

TEST(Engine, RequestsSharesSumToTheSteps) {
  std::array<Counts, kNumPhases> steps{}, requests{};
  double busy_ns = 0, device_ns = 0;
  {
    EngineOptions options = small_options();
    options.max_context = 0;
    options.kv_memory_bytes = 20 * 16 * 2 * 32 * 2 * 2;
    Engine engine(tiny_model(), options, [&](const StepRecord& record) {
      for (std::size_t p = 0; p < kNumPhases; ++p) {
        steps[p] += record.counts->phase[p];
        busy_ns += record.counts->busy_ns[p];
      }
    });
    std::vector<std::unique_ptr<Stream>> streams;
    for (std::uint32_t i = 0; i < 8; ++i)
      streams.push_back(engine.submit(request_of(random_tokens(60, i, 211), 30)));
    ASSERT_TRUE(streams[3]->next());
    streams[3]->abort();
    for (const auto& stream : streams) {
      collect(*stream);
      requests[0] += stream->usage().prefill;
      requests[1] += stream->usage().decode;
      EXPECT_GT(stream->usage().device_ns[0], 0);
      for (const double ns : stream->usage().device_ns) device_ns += ns;
    }
    EXPECT_GT(engine.stats().num_preemptions, 0);
  }
  EXPECT_EQ(requests[0], steps[0]);
  EXPECT_EQ(requests[1], steps[1]);
  EXPECT_GT(steps[0].wasted_tokens, 0) << "preempted sequences are computed again";
  EXPECT_GT(busy_ns, 0);
  EXPECT_NEAR(device_ns / busy_ns, 1, 1e-9);
}

// A device that draws a joule whenever it is looked at.
class CountingSensors final : public DeviceSensors {
 public:
  DeviceHealth read() override {
    DeviceHealth health;
    health.energy_joules = static_cast<double>(++num_readings);
    return health;
  }
  int num_readings = 0;
};

TEST(Engine, ARequestsTimeAndEnergyAreAccountedForToTheLast) {
  const auto sensors = std::make_shared<CountingSensors>();
  struct Step {
    std::int64_t start_ns = 0, end_ns = 0;
    double busy_ns = 0;
  };
  std::vector<Step> steps;
  std::vector<RequestUsage> usages;
  std::optional<EnergyUse> energy;
  {
    EngineOptions options = small_options();
    options.max_context = 0;
    options.kv_memory_bytes = 20 * 16 * 2 * 32 * 2 * 2;
    options.sensors = sensors;
    Engine engine(
        tiny_model(), options,
        [&](const StepRecord& record) {
          steps.push_back({record.start_ns, record.start_ns + record.wall_ns,
                           record.counts->busy_ns[0] + record.counts->busy_ns[1]});
        },
        [&](const RequestUsage& usage) { usages.push_back(usage); });
    std::vector<std::unique_ptr<Stream>> streams;
    for (std::uint32_t i = 0; i < 8; ++i) {
      Request request = request_of(random_tokens(60, i, 211), 30);
      request.n = i == 1 ? 2 : 1;
      streams.push_back(engine.submit(request));
    }
    ASSERT_TRUE(streams[3]->next());
    streams[3]->abort();
    for (const auto& stream : streams) collect(*stream, 2);
    EXPECT_GT(engine.stats().num_preemptions, 0);
    energy = engine.stats().energy;
  }
  ASSERT_EQ(usages.size(), 8u);
  std::int64_t preempted_ns = 0, others_ns = 0;
  double joules = 0;
  for (const RequestUsage& usage : usages) {
    const RequestTimes& times = usage.times;
    EXPECT_EQ(times.sum(), usage.finish_ns - usage.arrival_ns);
    EXPECT_EQ(times[RequestTerm::kReading], 0) << "nobody said that it was received earlier";
    EXPECT_EQ(times[RequestTerm::kQueued], usage.scheduled_ns - usage.arrival_ns);
    const std::int64_t own_ns =
        times[RequestTerm::kPrefill] + times[RequestTerm::kDecode] + times[RequestTerm::kRecomputation];
    EXPECT_NEAR(static_cast<double>(own_ns), usage.device_ns[0] + usage.device_ns[1], 2);
    EXPECT_EQ(times[RequestTerm::kRecomputation] > 0, usage.prefill.wasted_tokens > 0);
    preempted_ns += times[RequestTerm::kPreempted];
    double busy_ns = 0;
    for (const Step& step : steps)
      if (step.start_ns >= usage.scheduled_ns && step.end_ns <= usage.finish_ns) busy_ns += step.busy_ns;
    const auto all_ns = static_cast<double>(own_ns + times[RequestTerm::kOthers]);
    EXPECT_LE(all_ns, busy_ns + 4);
    EXPECT_GE(all_ns, busy_ns - static_cast<double>(times[RequestTerm::kPreempted]) - 4);
    others_ns += times[RequestTerm::kOthers];
    joules += usage.joules.value();
  }
  EXPECT_GT(preempted_ns, 0);
  EXPECT_GT(others_ns, 0);
  ASSERT_TRUE(energy);
  EXPECT_NEAR(joules, energy->busy, 1e-9);
  EXPECT_NEAR(energy->idle + energy->gap + energy->busy, sensors->num_readings - 1, 1e-9);
  EXPECT_GT(sensors->num_readings, 8) << "a request that ends is told what it used";
}

// Preemptions by a small cache, and an abort in the middle of a prompt.
TEST(Engine, WasteHasItsCauseAndTheCausesSumToIt) {
  auto model = tiny_model();
  DevicePeaks peaks;
  for (auto& peak : peaks.compute) peak.attainable = 1e11;
  peaks.bandwidth.attainable = 1e10;
  model->ops->ledger().set_peaks(peaks.attainable(), peaks.vendor());
  UtilizationMeter meter(peaks, 0);
  std::promise<void> has_begun, is_aborted;
  bool waits = true;
  std::int64_t begin_ns = 0, end_ns = 0, prefilled = 0;
  {
    EngineOptions options = small_options();
    options.max_context = 0;
    options.kv_memory_bytes = 20 * 16 * 2 * 32 * 2 * 2;
    Engine engine(model, options, [&](const StepRecord& record) {
      meter.add_step(record);
      if (begin_ns == 0) begin_ns = record.start_ns;
      end_ns = record.start_ns + record.wall_ns;
      for (const SequenceStep& sequence : record.sequences)
        if (sequence.request->prompt_tokens == 150 && waits) {
          prefilled = sequence.num_tokens;
          waits = false;
          has_begun.set_value();
          is_aborted.get_future().wait();
        }
    });
    const auto doomed = engine.submit(request_of(random_tokens(150, 9, 211), 30));
    has_begun.get_future().wait();
    doomed->abort();
    std::vector<std::unique_ptr<Stream>> streams;
    for (std::uint32_t i = 0; i < 6; ++i)
      streams.push_back(engine.submit(request_of(random_tokens(60, i, 211), 30)));
    is_aborted.set_value();
    for (const auto& stream : streams) collect(*stream);
    EXPECT_EQ(collect(*doomed)[0].reason, FinishReason::kAborted);
    EXPECT_GT(engine.stats().num_preemptions, 0);
  }
  const PhaseTotals& prefill = meter.totals(Phase::kPrefill);
  const Counts aborted = wasted_by(prefill, WasteCause::kAborted);
  const Counts recomputed = wasted_by(prefill, WasteCause::kRecomputation);
  EXPECT_EQ(aborted.wasted_tokens, prefilled);
  EXPECT_GT(aborted.executed_flops(), 0);
  EXPECT_GT(recomputed.wasted_tokens, 0);
  EXPECT_EQ(aborted.wasted_tokens + recomputed.wasted_tokens, prefill.counts.wasted_tokens);
  EXPECT_EQ(aborted.executed_flops() + recomputed.executed_flops(),
            prefill.counts.executed_flops() - prefill.counts.useful_flops());
  EXPECT_EQ(aborted.wasted_bytes + recomputed.wasted_bytes, prefill.counts.wasted_bytes);
  const auto window =
      waterfall_of(meter.totals(), peaks, static_cast<double>(end_ns - begin_ns) * 1e-9).value();
  for (const Waterfall* terms : {&window.whole, &window.phases[0], &window.phases[1]}) {
    double sum = 0;
    for (const double seconds : terms->waste_seconds) sum += seconds;
    EXPECT_NEAR(sum, (*terms)[Term::kWaste], 1e-12);
  }
  EXPECT_GT(window.whole.waste_seconds[static_cast<std::size_t>(WasteCause::kAborted)], 0);
  EXPECT_GT(window.whole.waste_seconds[static_cast<std::size_t>(WasteCause::kRecomputation)], 0);
}

TEST(Engine, AbortEndsARequestAndFreesItsBlocks) {
  Engine engine(tiny_model(), small_options());
  auto doomed = engine.submit(request_of({1, 2, 3}, 400));
  auto other = engine.submit(request_of({4, 5}, 20));
  ASSERT_TRUE(doomed->next());
  doomed->abort();
  EXPECT_EQ(collect(*doomed)[0].reason, FinishReason::kAborted);
  EXPECT_EQ(collect(*other)[0].tokens.size(), 20u);
  auto dropped = engine.submit(request_of({1, 2, 3}, 400));
  dropped.reset();
  EXPECT_EQ(collect(*engine.submit(request_of({9}, 3)))[0].tokens.size(), 3u);
  for (int i = 0; i < 200 && engine.stats().num_running > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(engine.stats().num_running, 0);
  EXPECT_EQ(engine.stats().kv_usage, 0);
}

// A model whose logits are NaN after `poison` was read: its embedding is.
std::shared_ptr<LoadedModel> model_poisoned_by(std::int32_t poison) {
  ModelConfig config = tiny_config();
  config.tied_embeddings = false;
  const auto model = tiny_model(DType::kF32, 2, config);
  std::vector<float> table(static_cast<std::size_t>(config.vocab_size * config.hidden_size));
  for (std::int64_t row = 0; row < config.vocab_size; ++row)
    model->ops->unpack_row(model->weights->embedding.view, row, table.data() + row * config.hidden_size);
  std::fill_n(table.begin() + poison * config.hidden_size, config.hidden_size, std::nanf(""));
  model->weights->embedding =
      model->ops->pack({DType::kF32, config.vocab_size, config.hidden_size, [&](std::int64_t row) {
                          return reinterpret_cast<const std::byte*>(table.data() + row * config.hidden_size);
                        }});
  return model;
}

TEST(Engine, BrokenLogitsOfOneAnswerEndItsRequestAndNoOther) {
  constexpr std::int32_t kPoison = 17;
  Engine engine(model_poisoned_by(kPoison), small_options());
  Request sound = request_of(random_tokens(20, 2, 17), 40);  // ids below the poison
  sound.sampling.logit_bias = {{kPoison, -1e6f}};
  const Trace expected = collect(*engine.submit(sound))[0];
  ASSERT_EQ(expected.reason, FinishReason::kLength);
  int broken = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Request doomed = request_of(random_tokens(9, 3, 17), 40);
    doomed.n = 4;
    doomed.sampling.temperature = 1;
    doomed.sampling.seed = seed;
    doomed.sampling.logit_bias = {{kPoison, 4.0f}};
    const auto stream = engine.submit(doomed), beside = engine.submit(sound);
    for (const Trace& trace : collect(*stream, 4)) {
      if (trace.reason != FinishReason::kError) continue;
      ++broken;
      EXPECT_NE(trace.error.find("NaN"), std::string::npos) << trace.error;
    }
    EXPECT_EQ(collect(*beside)[0], expected) << "seed " << seed;
  }
  EXPECT_GT(broken, 20) << "the poison was drawn";
  EXPECT_EQ(engine.stats().num_running, 0);
  EXPECT_EQ(engine.stats().kv_usage, 0);
}

TEST(Engine, APromptWithBrokenLogitsEndsItsRequestAlone) {
  constexpr std::int32_t kPoison = 17;
  Engine engine(model_poisoned_by(kPoison), small_options());
  Request request = request_of(random_tokens(80, 2, 17), 4);
  request.sampling.logit_bias = {{kPoison, -1e6f}};
  request.sampling.num_prompt_logprobs = 1;
  const Trace expected = collect(*engine.submit(request))[0];
  EXPECT_EQ(expected.reason, FinishReason::kLength);
  Request doomed = request;
  doomed.prompt[3] = kPoison;
  const auto stream = engine.submit(doomed), beside = engine.submit(request);
  const Trace trace = collect(*stream)[0];
  EXPECT_EQ(trace.reason, FinishReason::kError);
  EXPECT_NE(trace.error.find("NaN"), std::string::npos) << trace.error;
  EXPECT_EQ(collect(*beside)[0], expected);
}

TEST(Engine, ShuttingDownEndsEveryStream) {
  std::unique_ptr<Stream> stream;
  {
    Engine engine(tiny_model(), small_options());
    stream = engine.submit(request_of({1, 2, 3}, 450));
  }
  EXPECT_EQ(collect(*stream)[0].reason, FinishReason::kAborted);
}

TEST(Engine, RefusesWhatCanNeverRunWithBothNumbers) {
  Engine engine(tiny_model(), small_options());
  const auto refused = [&](const Request& request, const std::string& first, const std::string& second) {
    try {
      engine.submit(request);
      ADD_FAILURE() << "accepted; expected " << first;
    } catch (const std::invalid_argument& e) {
      EXPECT_NE(std::string(e.what()).find(first), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(second), std::string::npos) << e.what();
    }
  };
  refused(request_of({}, 1), "empty", "one");
  refused(request_of(random_tokens(600, 1, 211), 1), "600", "512");
  refused(request_of({5, 211}, 1), "211", "210");
  Request astray = request_of({5}, 1);
  astray.sampling.token_rules = std::make_shared<TokenRules>(TokenRules{.bad_sequences = {{5, 211}}});
  refused(astray, "bad_sequences", "210");
  Request many = request_of({5}, 1);
  many.n = 9;
  refused(many, "9", "8");
  Request hot = request_of({5}, 1);
  hot.sampling.top_p = 2;
  refused(hot, "top_p", "1");
}

TEST(Engine, SubmitsAndAbortsFromManyThreads) {
  Engine engine(tiny_model(), small_options());
  std::atomic<int> finished{0};
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::uint32_t i = 0; i < 12; ++i) {
        auto stream =
            engine.submit(request_of(random_tokens(1 + (t * 7 + i * 13) % 50, t * 100 + i, 211), 8));
        if (i % 3 == 0) stream->abort();
        const Trace trace = collect(*stream)[0];
        if (i % 3 != 0) {
          EXPECT_EQ(trace.tokens.size(), 8u);
        }
        EXPECT_NE(trace.reason, FinishReason::kNone);
        finished += 1;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(finished, 48);
}

}  // namespace
}  // namespace redline
