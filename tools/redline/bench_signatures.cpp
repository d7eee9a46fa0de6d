// redline bench signatures: each technique switched off and on under the same load, and what that does to the
// meters. The off states are policies of the scheduler and of the cache; attention's is a sum, since no
// operation here writes its scores to memory. docs/signatures.md reads the result.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/meter/format.h"
#include "engine/weights.h"
#include "tools/load/drive.h"
#include "tools/load/engine_target.h"
#include "tools/redline/bench_run.h"
#include "tools/redline/command.h"
#include "tools/redline/load_meter.h"
#include "tools/redline/session.h"
#include "tools/redline/terminal.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

struct SignatureFlags {
  std::string model;
  ModelFlags model_flags;
  std::vector<std::string> only;
  std::int32_t repetitions = 3, num_prompts = 0;
  bool json = false;
};

constexpr double kNoClaim = -1e300, kNoLimit = 1e300;

/// A meter with a technique off and on. `low` to `high` is what is claimed of `measured`.
struct Figure {
  std::string meter, unit;
  double off = 0, on = 0;
  std::string claim{};
  double measured = 0, low = kNoClaim, high = kNoLimit;

  const char* verdict() const {
    if (low == kNoClaim) return "";
    return measured < low ? "does not hold" : measured > high ? "more than claimed" : "holds";
  }
};

/// Of how much larger the meter is with the technique than without.
Figure change(Figure figure, double low, double high, std::string claim) {
  figure.measured = figure.on / figure.off - 1;
  return figure.low = low, figure.high = high, figure.claim = std::move(claim), figure;
}
/// Of the meter itself, with the technique.
Figure level(Figure figure, double low, double high, std::string claim) {
  figure.measured = figure.on;
  return figure.low = low, figure.high = high, figure.claim = std::move(claim), figure;
}

struct Signature {
  std::string name, technique, off_state;
  std::vector<Figure> figures{};
};

struct Load {
  std::size_t num_requests = 1;
  load::Lengths input, output;
  std::int64_t shared = 0;           // tokens before each input
  std::int64_t max_concurrency = 0;  // 0: all at once
};

class Signatures {
 public:
  Signatures(const SignatureFlags& flags, std::shared_ptr<LoadedModel> model)
      : flags_(flags), model_(std::move(model)) {}

  std::vector<Signature> measure() {
    using Measure = void (Signatures::*)(Signature&);
    const std::pair<Signature, Measure> all[] = {
        {{"attention", "tiled attention", "scores and weights of the softmax written to memory (a sum)"},
         &Signatures::attention},
        {{"paging", "a paged cache", "a place of the longest sequence for each"}, &Signatures::paging},
        {{"batching", "continuous batching", "static batches"}, &Signatures::batching},
        {{"chunking", "chunked prefill", "whole prompts in one step"}, &Signatures::chunking},
        {{"prefix", "the prefix cache", "none"}, &Signatures::prefix},
        {{"weights", "8-bit and 4-bit weights", "bf16 weights"}, &Signatures::weights},
    };
    for (const std::string& name : flags_.only)
      if (std::ranges::none_of(all, [&](const auto& each) { return each.first.name == name; }))
        throw UsageError("--only: '" + name +
                         "' is none of attention, paging, batching, chunking, prefix, weights");
    std::vector<Signature> signatures;
    for (auto [signature, run] : all) {
      if (!flags_.only.empty() && std::ranges::find(flags_.only, signature.name) == flags_.only.end())
        continue;
      (this->*run)(signature);
      signatures.push_back(std::move(signature));
    }
    return signatures;
  }

 private:
  static load::Lengths uniform(double low, double high) { return {load::Lengths::Kind::kUniform, low, high}; }
  static load::Lengths fixed(double length) { return {load::Lengths::Kind::kFixed, length}; }

  EngineOptions engine_options(std::int64_t max_context) const {
    EngineOptions options;
    options.max_context = std::min<std::int64_t>(max_context, model_->config.max_positions);
    options.prefix_cache = false;
    return options;
  }

  LoadOutcome run(const EngineOptions& options, const Load& asked, std::uint64_t seed) {
    load::WorkloadOptions workload;
    workload.num_requests =
        flags_.num_prompts > 0 ? static_cast<std::size_t>(flags_.num_prompts) : asked.num_requests;
    workload.input = asked.input, workload.output = asked.output;
    workload.prefix_units = asked.shared;
    workload.num_units = static_cast<std::int32_t>(model_->config.vocab_size);
    workload.seed = seed;
    SamplingParams sampling;
    sampling.ignore_eos = true;
    sampling.temperature = 0;
    LoadMeter meter(*model_);
    load::DriveResult result;
    {
      const Engine* running = nullptr;  // no step comes before the first request
      Engine engine(model_, options, [&](const StepRecord& step) { meter.add_step(step, running->stats()); });
      running = &engine;
      load::EngineTarget target(engine, sampling, [] { return std::string(); });
      load::DriveOptions drive;
      drive.max_concurrency = asked.max_concurrency;
      drive.go_on = [&](std::size_t, std::size_t) { return !interrupt_.requested(); };
      result = load::drive(target, load::random_workload(workload), drive);
    }
    if (result.interrupted) throw std::runtime_error("interrupted");
    const load::Statistics s = load::statistics_of(result.records, {});
    if (s.failed > 0) throw std::runtime_error("a request failed: " + first_error(result));
    LoadOutcome outcome;
    meter.put(outcome, s.duration_s);
    outcome.tokens_per_s = static_cast<double>(s.output_tokens) / s.duration_s;
    outcome.ttft_ms = s.ttft_ms.p50;
    outcome.itl_p99_ms = s.itl_ms.p99;
    outcome.prompt_tokens_computed =
        1 - static_cast<double>(s.cached_tokens) / static_cast<double>(s.prompt_tokens);
    return outcome;
  }
  static std::string first_error(const load::DriveResult& result) {
    for (const load::RequestRecord& record : result.records)
      if (!record.completed) return record.error;
    return {};
  }

  /// Both states in turn, so many times; `figures` are told the medians by meter.
  struct Pairs {
    std::vector<LoadOutcome> off, on;
    static double median(const std::vector<LoadOutcome>& outcomes, double LoadOutcome::*member) {
      std::vector<double> values;
      for (const LoadOutcome& outcome : outcomes) values.push_back(outcome.*member);
      return load::summarize(std::move(values)).median;
    }
    Figure operator()(const char* meter, const char* unit, double LoadOutcome::*member,
                      double scale = 1) const {
      return {meter, unit, scale * median(off, member), scale * median(on, member)};
    }
  };
  Pairs run_pairs(const EngineOptions& off, const EngineOptions& on, const Load& asked,
                  const std::string& name) {
    Pairs pairs;
    ProgressBar bar(name);
    for (std::int32_t i = 0; i < flags_.repetitions; ++i) {
      const auto seed = static_cast<std::uint64_t>(i);
      for (const bool first : {true, false}) {
        bar.show(2 * i + (first ? 0 : 1), 2 * flags_.repetitions);
        const bool is_on = first == (i % 2 == 1);
        (is_on ? pairs.on : pairs.off).push_back(run(is_on ? on : off, asked, seed));
      }
    }
    return pairs;
  }

  // Bytes that attention moves for one prompt, all layers: queries and results once, K and V once; where the
  // scores are written, [heads, tokens, tokens] four times: scores out and in, weights out and in.
  void attention(Signature& signature) {
    const ModelConfig& c = model_->config;
    for (const double tokens : {512.0, 2048.0}) {
      const auto layers = static_cast<double>(c.num_layers), heads = static_cast<double>(c.num_q_heads),
                 kv_heads = static_cast<double>(c.num_kv_heads), dim = static_cast<double>(c.head_dim);
      const double tiled = layers * tokens * dim * (2 * heads * 4 + 2 * kv_heads * 2);
      const double scores = layers * 4 * heads * tokens * tokens * 4;
      Figure figure{"attention bytes, " + std::to_string(static_cast<int>(tokens)) + " tokens", "B",
                    tiled + scores, tiled};
      figure = change(figure, 0.5, 0.8, "-50 to -80 %");
      figure.measured = -figure.measured;  // saved
      signature.figures.push_back(figure);
    }
  }

  void paging(Signature& signature) {
    const ModelConfig& c = model_->config;
    EngineOptions on = engine_options(256);
    on.max_sequences = 64;
    on.kv_memory_bytes = 2048 * 2 * 2 * c.num_layers * c.num_kv_heads * c.head_dim;
    EngineOptions off = on;
    off.paged_cache = false;
    const Load asked{.num_requests = 96, .input = uniform(16, 64), .output = uniform(4, 124)};
    const Pairs pairs = run_pairs(off, on, asked, signature.name);
    signature.figures = {
        level(pairs("memory that holds tokens", "%", &LoadOutcome::tokens_held, 100), 95, kNoLimit,
              "60 % -> over 95 %"),
        level(pairs("blocks in use", "%", &LoadOutcome::blocks_used, 100), 90, kNoLimit, "over 90 %"),
        level(pairs("fragmentation", "%", &LoadOutcome::fragmentation, 100), kNoLimit, kNoLimit, "under 5 %"),
        pairs("sequences at a time", "", &LoadOutcome::seats),
        pairs("generated", "tok/s", &LoadOutcome::tokens_per_s),
        pairs("MFU", "%", &LoadOutcome::mfu, 100)};
    Figure& fragmentation = signature.figures[2];
    fragmentation.measured = 5 - fragmentation.on;  // below the claimed limit
    fragmentation.low = 0;
  }

  void batching(Signature& signature) {
    EngineOptions on = engine_options(256);
    on.max_sequences = 16;
    EngineOptions off = on;
    off.continuous_batching = false;
    const Load asked{.num_requests = 64, .input = uniform(16, 64), .output = uniform(4, 124)};
    const Pairs pairs = run_pairs(off, on, asked, signature.name);
    signature.figures = {
        change(pairs("MFU", "%", &LoadOutcome::mfu, 100), 0.2, 0.4, "+20 to +40 %"),
        level(pairs("seats taken", "%", &LoadOutcome::seats, 100.0 / 16), 70, kNoLimit, "over 70 %"),
        level(pairs("variation of MFU", "%", &LoadOutcome::mfu_variation, 100), kNoLimit, kNoLimit,
              "under 20 %"),
        pairs("generated", "tok/s", &LoadOutcome::tokens_per_s),
        pairs("TTFT, median", "ms", &LoadOutcome::ttft_ms)};
    Figure& variation = signature.figures[2];
    variation.measured = 20 - variation.on;
    variation.low = 0;
  }

  void chunking(Signature& signature) {
    EngineOptions on = engine_options(1024);
    on.max_batched_tokens = 64;
    EngineOptions off = on;
    off.max_batched_tokens = static_cast<std::int32_t>(off.max_context);
    const Load asked{.num_requests = 24, .input = fixed(384), .output = fixed(48), .max_concurrency = 8};
    const Pairs pairs = run_pairs(off, on, asked, signature.name);
    signature.figures = {pairs("ITL, 99th percentile", "ms", &LoadOutcome::itl_p99_ms),
                         pairs("TTFT, median", "ms", &LoadOutcome::ttft_ms),
                         pairs("generated", "tok/s", &LoadOutcome::tokens_per_s),
                         pairs("MFU", "%", &LoadOutcome::mfu, 100)};
  }

  void prefix(Signature& signature) {
    const EngineOptions off = engine_options(512);
    EngineOptions on = off;
    on.prefix_cache = true;
    const Load asked{
        .num_requests = 32, .input = fixed(32), .output = fixed(16), .shared = 256, .max_concurrency = 4};
    const Pairs pairs = run_pairs(off, on, asked, signature.name);
    signature.figures = {pairs("prompt tokens computed", "%", &LoadOutcome::prompt_tokens_computed, 100),
                         pairs("TTFT, median", "ms", &LoadOutcome::ttft_ms),
                         pairs("generated", "tok/s", &LoadOutcome::tokens_per_s),
                         pairs("MFU", "%", &LoadOutcome::mfu, 100)};
  }

  struct Decode {
    double tokens_per_s, weight_bytes, intensity;
  };
  static Decode decode(LoadedModel& model, BenchRun& bench, std::int64_t batch) {
    const BenchTest test{.num_generated = 32, .batch = batch};
    BenchRecord record{UtilizationMeter(metered_peaks(model), model.weights->stored_bytes)};
    bench.warm_up(test);
    const double seconds = bench.measure(test, record);
    const PhaseTotals& totals = record.meter.totals(Phase::kDecode);
    return {static_cast<double>(batch * test.num_tokens()) / seconds,
            static_cast<double>(totals.counts.weights) / static_cast<double>(totals.steps),
            record.meter.roofline(Phase::kDecode).intensity.value_or(0)};
  }

  void weights(Signature& signature) {
    struct Variant {
      DType dtype;
      std::shared_ptr<LoadedModel> model;
      std::unique_ptr<BenchRun> bench;
      std::vector<double> rates[2];
      Decode last[2];
    };
    const std::int64_t batches[2] = {1, 8};
    std::vector<Variant> variants;
    for (const DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
      ModelFlags model_flags = flags_.model_flags;
      model_flags.dtype = dtype;
      auto model = load_model(flags_.model, model_flags);
      auto bench = std::make_unique<BenchRun>(*model, DType::kBF16, batches[1], 32);
      variants.push_back({dtype, std::move(model), std::move(bench), {}, {}});
    }
    for (std::int32_t i = 0; i < flags_.repetitions; ++i)
      for (Variant& variant : variants)
        for (int b = 0; b < 2; ++b) {
          variant.last[b] = decode(*variant.model, *variant.bench, batches[b]);
          variant.rates[b].push_back(variant.last[b].tokens_per_s);
        }
    const auto rate = [](const Variant& variant, int b) { return load::summarize(variant.rates[b]).median; };
    const Variant& bf16 = variants.front();
    for (std::size_t v = 1; v < variants.size(); ++v) {
      const Variant& narrow = variants[v];
      const std::string name = redline::name(narrow.dtype);
      const Variant& wide = variants[v - 1];
      signature.figures.push_back(
          {name + ": weights read a step", "B", bf16.last[0].weight_bytes, narrow.last[0].weight_bytes});
      Figure halved{name + ": the same against " + redline::name(wide.dtype), "B", wide.last[0].weight_bytes,
                    narrow.last[0].weight_bytes};
      halved.claim = "halved", halved.measured = wide.last[0].weight_bytes / narrow.last[0].weight_bytes,
      halved.low = 1.8, halved.high = 2.2;
      signature.figures.push_back(halved);
      for (int b = 0; b < 2; ++b) {
        const std::string at = ", batch " + std::to_string(batches[b]);
        const Figure decoded{name + ": generated" + at, "tok/s", rate(wide, b), rate(narrow, b)};
        Figure faster = decoded;
        faster.meter += " against " + std::string(redline::name(wide.dtype));
        signature.figures.push_back(change(faster, 0.4, 0.9, "1.4 to 1.9 times"));
        signature.figures.push_back(
            {name + ": FLOPs per byte" + at, "", bf16.last[b].intensity, narrow.last[b].intensity});
      }
    }
  }

  const SignatureFlags& flags_;
  const std::shared_ptr<LoadedModel> model_;
  const InterruptGuard interrupt_;
};

std::string value_text(double value, const std::string& unit) {
  if (unit == "B" || unit == "tok/s") return format_si(value, unit == "B" ? "B" : "");
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%s%s", value, unit.empty() ? "" : " ", unit.c_str());
  return text;
}

void print_tables(const std::vector<Signature>& signatures) {
  for (const Signature& signature : signatures) {
    std::printf("%s; off: %s\n", signature.technique.c_str(), signature.off_state.c_str());
    std::vector<std::vector<std::string>> table{{"meter", "off", "on", "change", "claimed", "verdict"}};
    for (const Figure& figure : signature.figures) {
      char ratio[32];
      std::snprintf(ratio, sizeof ratio, "%.2fx", figure.on / figure.off);
      table.push_back({figure.meter, value_text(figure.off, figure.unit), value_text(figure.on, figure.unit),
                       ratio, figure.claim, figure.verdict()});
    }
    std::printf("%s\n", format_table(table).c_str());
  }
}

Json json_of(const std::vector<Signature>& signatures) {
  Json array = Json::array();
  for (const Signature& signature : signatures) {
    Json figures = Json::array();
    for (const Figure& figure : signature.figures)
      figures.push_back({{"meter", figure.meter},
                         {"unit", figure.unit},
                         {"off", figure.off},
                         {"on", figure.on},
                         {"claim", figure.claim.empty() ? Json(nullptr) : Json(figure.claim)},
                         {"verdict", figure.claim.empty() ? Json(nullptr) : Json(figure.verdict())}});
    array.push_back({{"name", signature.name},
                     {"technique", signature.technique},
                     {"off_state", signature.off_state},
                     {"figures", std::move(figures)}});
  }
  return array;
}

int bench_signatures(const SignatureFlags& flags) {
  Signatures signatures(flags, load_model(flags.model, flags.model_flags));
  const std::vector<Signature> measured = signatures.measure();
  if (flags.json)
    std::printf("%s\n", json_of(measured).dump().c_str());
  else
    print_tables(measured);
  return kExitDone;
}

}  // namespace

Action declare_bench_signatures(Flags& flags) {
  const auto values = std::make_shared<SignatureFlags>();
  add_model_argument(flags, values->model);
  flags.texts("--only", "NAME", "Only attention, paging, batching, chunking, prefix or weights",
              values->only);
  flags.number("-r,--repetitions", "Run each state this often, in turn; medians count", values->repetitions,
               1, 1000);
  flags.number("--num-prompts", "Requests of each load; 0: as many as it takes", values->num_prompts, 0);
  values->model_flags.add_to(flags);
  flags.flag("--json", "Print a JSON array", values->json);
  return [values] { return bench_signatures(*values); };
}

}  // namespace redline
