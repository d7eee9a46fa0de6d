// redline bench load: the same load on the engine in this process, without a server between.
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/weights.h"
#include "server/metrics.h"
#include "tools/load/engine_target.h"
#include "tools/redline/command.h"
#include "tools/redline/load_command.h"
#include "tools/redline/session.h"

namespace redline {
namespace {

struct BenchLoadFlags {
  std::string model;
  ModelFlags model_flags;
  CacheFlags cache;
  LoadFlags load;
  std::string trace;
};

std::int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int bench_load(const BenchLoadFlags& flags) {
  const auto model = load_model(flags.model, flags.model_flags);
  server::LiveMeter meter(metered_peaks(*model), model->weights->stored_bytes, steady_ns());
  warn_of_pace(*model, flags.cache.options);
  const auto trace = trace_to(flags.trace, model_name(flags.model), meter.peaks());
  std::optional<Engine> engine;
  engine.emplace(
      model, flags.cache.options,
      [&](const StepRecord& step) {
        meter.add_step(step);
        if (trace) trace->add_step(step);
      },
      [&](const RequestUsage& usage) {
        if (trace) trace->end_request(usage);
      });
  SamplingParams sampling;
  sampling.ignore_eos = flags.load.ignore_eos();
  sampling.temperature = flags.load.temperature();
  load::EngineTarget target(*engine, sampling, [&] {
    const EngineStats stats = engine->stats();
    const auto reading = meter.read(steady_ns(), stats.num_running + stats.num_waiting > 0);
    return server::metrics_text({}, meter, reading, {}, stats);
  });
  load::LoadPoint named;
  named.backend = "redline";
  named.model = named.tokenizer = model_name(flags.model);
  const int status = flags.load.run(target, named, static_cast<std::int32_t>(model->config.vocab_size));
  engine.reset();  // it adds to the trace
  if (trace) trace->close();
  return status;
}

}  // namespace

Action declare_bench_load(Flags& flags) {
  const auto values = std::make_shared<BenchLoadFlags>();
  add_model_argument(flags, values->model);
  values->load.add_to(flags);
  values->cache.add_to(flags);
  add_batch_flags(flags, values->cache.options);
  add_pace_flag(flags, values->cache.options);
  add_trace_flag(flags, values->trace);
  values->model_flags.add_to(flags);
  return [values] { return bench_load(*values); };
}

}  // namespace redline
