// redline serve: an OpenAI-compatible server for one model.
#include <malloc.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "accounts/account_writer.h"
#include "engine/memory.h"
#include "engine/meter/device_sensors.h"
#include "engine/meter/estimate.h"
#include "engine/meter/meter_cost.h"
#include "engine/weights.h"
#include "server/model_server.h"
#include "server/step_pace.h"
#include "tools/redline/command.h"
#include "tools/redline/options.h"
#include "tools/redline/session.h"
#include "tools/redline/tenant_flags.h"
#include "tools/redline/watchdog.h"

namespace redline {
namespace {

struct ServeFlags {
  std::string model, host = "127.0.0.1", metrics_alias;
  std::string unix_path, certificate_file, key_file, ledger, trace, otlp_endpoint;
  std::optional<double> price;
  std::string tool_call_parser = "auto", reasoning_parser = "auto";
  std::vector<std::string> names;
  TenantFlags tenants;
  std::string cors_origin = "*";
  std::int32_t port = 8000, max_queue = 1024, drain_timeout_s = 30, watchdog_s = 120;
  bool log_requests = false;
  ModelFlags model_flags;
  CacheFlags cache;
};

EngineOptions engine_options(const ServeFlags& flags, const TenantRules& tenants) {
  EngineOptions options = flags.cache.options;
  options.tenant_kv_share = tenants.kv_share;
  options.tenant_kv_shares = tenants.kv_shares;
  options.sensors = sensors_of(flags.model_flags.device);
  return options;
}

server::HttpAddress address_of(const ServeFlags& flags) {
  if (flags.certificate_file.empty() != flags.key_file.empty())
    throw UsageError("--ssl-certfile and --ssl-keyfile belong together");
  return {flags.host, static_cast<std::uint16_t>(flags.port), flags.unix_path, flags.certificate_file,
          flags.key_file};
}

std::string url_of(const ServeFlags& flags, std::uint16_t port) {
  if (!flags.unix_path.empty()) return "unix:" + flags.unix_path;
  return (flags.certificate_file.empty() ? "http://" : "https://") + flags.host + ":" + std::to_string(port);
}

// SIGINT and SIGTERM, taken by a thread of its own: they end the program until there is something to stop.
// Threads made after this object leave the signals to it.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    for (const int signal : {SIGINT, SIGTERM, SIGUSR2}) sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    thread_ = std::thread([this] {
      for (int signal = 0; sigwait(&set_, &signal) == 0 && signal != SIGUSR2;) {
        const std::lock_guard lock(mutex_);
        if (!stop_) std::_Exit(kExitInterrupted);
        stop_();
      }
    });
  }
  ~StopSignals() {
    pthread_kill(thread_.native_handle(), SIGUSR2);
    thread_.join();
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// What a signal does from now on; null: ends the program.
  void set_action(std::function<void()> stop) {
    const std::lock_guard lock(mutex_);
    stop_ = std::move(stop);
  }

 private:
  sigset_t set_;
  std::mutex mutex_;
  std::function<void()> stop_;
  std::thread thread_;
};

// Nothing of a request but its path, where keys may be misplaced behind a '?', is printed, and no controls.
void log_request(const server::HttpRequest& request, int status, std::chrono::nanoseconds took) {
  std::string path = request.path.substr(0, 200);
  for (char& c : path)
    if (c < 0x21 || c > 0x7e) c = '?';
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char time[32];
  std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", &utc);
  std::fprintf(stderr, "%s %s %s %d %.3f s\n", time, request.method.c_str(), path.c_str(), status,
               std::chrono::duration<double>(took).count());
}

std::int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A fault for tests: the step that never ends; 0: none.
std::int64_t frozen_step() {
  const char* step = std::getenv("REDLINE_FAULT_FREEZE_AT_STEP");
  return step ? std::atoll(step) : 0;
}

server::ServiceOptions service_options(const ServeFlags& flags, const TenantRules& tenants) {
  server::ServiceOptions options;
  options.model_names = flags.names.empty() ? std::vector{model_name(flags.model)} : flags.names;
  options.max_queue = flags.max_queue;
  options.kv_dtype = flags.cache.options.kv_dtype;
  options.tenant_max_waiting = tenants.max_waiting;
  options.tenants_max_waiting = tenants.tenants_max_waiting;
  options.tool_call_parser = flags.tool_call_parser;
  options.reasoning_parser = flags.reasoning_parser;
  if (!flags.metrics_alias.empty() && flags.metrics_alias != "vllm")
    throw UsageError("--metrics-alias is " + flags.metrics_alias + "; known is vllm");
  options.metrics.version = REDLINE_VERSION;
  options.metrics.vllm_alias = !flags.metrics_alias.empty();
  options.metrics.max_sequences = flags.cache.options.max_sequences;
  options.sensors = sensors_of(flags.model_flags.device);
  options.price_per_hour = flags.price;
  return options;
}

// All that a service is made of.
struct LoadedService {
  LoadedService(const ServeFlags& flags, const EngineOptions& engine_options, server::ServiceOptions options,
                server::ModelServer& http, const server::ModelServer::Progress& progress,
                std::atomic<bool>& ledger_fails, std::unique_ptr<TraceWriter>& trace)
      : model(load_model(flags.model, flags.model_flags, progress)),
        pace([&http](std::function<void()> what) { http.post(std::move(what)); }),
        meter(metered_peaks(*model), model->weights->stored_bytes, steady_ns(), measure_meter_cost()),
        tracer((trace = trace_to(flags.trace, options.model_names.front(), meter.peaks())).get()),
        engine(
            model, engine_options,
            [this, step_to_freeze_at = frozen_step()](const StepRecord& step) mutable {
              meter.add_step(step);
              if (tracer) tracer->add_step(step);
              pace.after_step();
              while (step_to_freeze_at > 0 && --step_to_freeze_at == 0)
                std::this_thread::sleep_for(std::chrono::hours(1));
            },
            [this](const RequestUsage& usage) {
              if (tracer) tracer->end_request(usage);
            }),
        service(engine, meter, completed(std::move(options), flags, ledger_fails)),
        watchdog(engine, std::chrono::seconds(flags.watchdog_s), [&http] { http.give_up(); }) {
    if (model->ops->uses_host_memory()) limit_data_to_groups();
    warn_of_pace(*model, engine_options);
  }

  // Calls end while the engine does, and the writer ends last.
  ~LoadedService() {
    if (accounts) accounts->end_times();
  }

  // With what the loaded model tells.
  server::ServiceOptions completed(server::ServiceOptions options, const ServeFlags& flags,
                                   std::atomic<bool>& ledger_fails) {
    options.metrics.weight_bytes = model->weights->stored_bytes;
    options.metrics.num_parameters = stored_weights(model->config, DType::kF32).parameters();
    if (flags.ledger.empty()) return options;
    RunAccount run{.run = new_run_id(),
                   .model = options.model_names.front(),
                   .device = meter.peaks().device_name,
                   .started_s = unix_seconds(),
                   .seen_s = unix_seconds()};
    const auto fill_times = [this](RunAccount& account) {
      const EngineStats stats = engine.stats();
      const auto reading = meter.read(steady_ns(), stats.num_running + stats.num_waiting > 0);
      account.idle_s = reading.idle_s;
      account.gap_s = reading.gap_s;
      account.busy_s = reading.busy_s;
    };
    const auto tell = [&ledger_fails](const std::string& failure) {
      ledger_fails = !failure.empty();
      if (failure.empty())
        std::fprintf(stderr, "the ledger is written again\n");
      else
        std::fprintf(stderr, "the ledger cannot be written, calls wait: %s\n", failure.c_str());
    };
    accounts = std::make_shared<AccountWriter>(flags.ledger, std::move(run), fill_times, tell);
    options.accounts = accounts;
    return options;
  }

  // Calls end while the engine does: their accounts are written after that.
  std::shared_ptr<AccountWriter> accounts;
  std::shared_ptr<LoadedModel> model;
  server::StepPace pace;
  server::LiveMeter meter;
  TraceWriter* const tracer;  // null: there is none
  Engine engine;
  server::Service service;
  Watchdog watchdog;
};

// Null: nobody asks for spans.
std::shared_ptr<server::OtlpExporter> exporter_of(const ServeFlags& flags) {
  std::optional<server::OtlpOptions> options;
  try {
    options = server::otlp_options(flags.otlp_endpoint, REDLINE_VERSION,
                                   [](const char* name) { return std::getenv(name); });
  } catch (const std::invalid_argument& error) {
    throw UsageError(error.what());
  }
  if (!options) return nullptr;
  const auto tell = [url = options->url](const std::string& failure) {
    if (failure.empty())
      std::fprintf(stderr, "spans are delivered to %s again\n", url.c_str());
    else
      std::fprintf(stderr, "spans cannot be delivered to %s: %s\n", url.c_str(), failure.c_str());
  };
  return std::make_shared<server::OtlpExporter>(std::move(*options), tell);
}

int serve(const ServeFlags& flags) {
  // A large body's memory goes back to the system with it: glibc would learn to keep such pieces, in pieces.
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  StopSignals signals;
  const TenantRules tenants = flags.tenants.rules(flags.max_queue);
  server::ServiceOptions options = service_options(flags, tenants);
  const EngineOptions engine = engine_options(flags, tenants);
  const std::string& name = options.model_names.front();
  std::atomic<bool> ledger_fails = false;
  std::unique_ptr<TraceWriter> trace;  // closed once the engine has ended
  auto server = std::make_unique<server::ModelServer>(
      address_of(flags), server::HttpLimits{},
      server::Headers{{"Access-Control-Allow-Origin", flags.cors_origin}},
      server::ApiOptions{tenants.keys, REDLINE_VERSION, name},
      flags.log_requests ? log_request : server::RequestLog());
  options.telemetry = {exporter_of(flags), flags.unix_path.empty() ? flags.host : flags.unix_path,
                       server->port()};
  const std::string url = url_of(flags, server->port());
  signals.set_action([&] { server->stop(std::chrono::seconds(flags.drain_timeout_s)); });
  std::fprintf(stderr, "%s is being loaded; %s/health tells how far it is\n", name.c_str(), url.c_str());
  const bool ended = server->run(
      [&](const server::ModelServer::Progress& progress) {
        const auto whole =
            std::make_shared<LoadedService>(flags, engine, options, *server, progress, ledger_fails, trace);
        return std::shared_ptr<server::Service>(whole, &whole->service);
      },
      [&] { std::fprintf(stderr, "%s is served at %s\n", name.c_str(), url.c_str()); });
  if (!ended) std::_Exit(kExitDone);  // while it was being loaded, which cannot be broken off
  signals.set_action({});
  server.reset();  // with the service, whose last accounts are written now
  if (trace) trace->close();
  if (ledger_fails)
    throw std::runtime_error(flags.ledger + ": the accounts of the last calls were not written");
  return kExitDone;
}

}  // namespace

Action declare_serve(Flags& flags) {
  const auto values = std::make_shared<ServeFlags>();
  add_model_argument(flags, values->model);
  flags.text("--host", "ADDRESS", "Where to listen; 0.0.0.0: everywhere", values->host);
  flags.number("--port", "The port; 0: any free one", values->port, 0, 65535);
  flags.texts("--served-model-name", "NAME", "What clients call the model (default: its base name)",
              values->names);
  flags.text("--uds", "PATH", "Listen on this Unix socket instead", values->unix_path);
  flags.text("--ssl-certfile", "FILE", "Speak TLS with this certificate chain, PEM",
             values->certificate_file);
  flags.text("--ssl-keyfile", "FILE", "The certificate's key, PEM", values->key_file);
  values->tenants.add_keys_to(flags);
  flags.text("--cors-origin", "ORIGIN", "The origin that browsers may ask from", values->cors_origin);
  flags.flag("--log-requests", "Write a line to stderr for each request: method, path, status, seconds",
             values->log_requests);
  flags.text("--metrics-alias", "NAME", "Export metrics under the names of this engine too: vllm",
             values->metrics_alias);
  flags.number("--max-queue", "Calls at a time, beyond which clients get 429", values->max_queue, 1);
  values->tenants.add_limits_to(flags);
  flags.text("--ledger", "FILE", "Keep account of every call in this file, for `redline report`",
             values->ledger);
  add_trace_flag(flags, values->trace);
  flags.text("--otlp-endpoint", "URL",
             "Send a span of every call to this OpenTelemetry collector, by OTLP/HTTP (/v1/traces is added)",
             values->otlp_endpoint);
  flags.number("--price", "Of the device's hour: answers then tell what they cost", values->price, 0, 1e9);
  flags.number("--drain-timeout", "Seconds that answers get to end in after SIGTERM", values->drain_timeout_s,
               0);
  flags.number("--watchdog", "Seconds that the engine may take for a step before the server gives up; 0: any",
               values->watchdog_s, 0);
  flags.text(
      "--tool-call-parser", "NAME",
      "How the model writes tool calls: hermes, llama3, pythonic, mistral, granite, phi4, smollm3, lfm2, "
      "json, none; auto: as its chat template shows",
      values->tool_call_parser);
  flags.text("--reasoning-parser", "NAME", "How it marks reasoning: think, mistral, none; auto: likewise",
             values->reasoning_parser);
  values->cache.add_to(flags);
  flags.size("--max-model-len", "vLLM's name for --ctx", values->cache.options.max_context, 1);
  add_batch_flags(flags, values->cache.options);
  add_pace_flag(flags, values->cache.options);
  values->model_flags.add_to(flags);
  return [values] { return serve(*values); };
}

}  // namespace redline
