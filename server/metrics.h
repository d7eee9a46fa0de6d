// The page that Prometheus reads (docs/metrics.md).
#pragma once

#include <optional>
#include <string>

#include "engine/engine.h"
#include "engine/meter/device_sensors.h"
#include "server/call_meter.h"
#include "server/http.h"
#include "server/live_meter.h"
#include "server/telemetry/otlp_exporter.h"

namespace redline::server {

struct MetricsOptions {
  std::string version, model_name, device_name;
  std::int64_t num_parameters = 0, weight_bytes = 0;  // of the model, as packed
  std::int64_t max_sequences = 0;                     // that run at a time
  bool vllm_alias = false;  // vLLM's names too, so that dashboards made for it show this engine
};

/// `tenant`: whose samples by tenant there are; nothing: all tenants'. The rest is everybody's together.
/// Ratios over wall time are 0 when nothing ran, over busy time NaN; nothing stands for an unknown peak.
std::string metrics_text(const MetricsOptions& options, const LiveMeter& meter, const LiveReading& reading,
                         const AnswerTotals& answers, const EngineStats& stats,
                         const DeviceHealth& health = {},
                         const std::optional<OtlpExporter::Totals>& spans = {},
                         const std::optional<std::string>& tenant = {});

/// The page while the model is being loaded; `total_bytes` 0: not known yet.
std::string loading_metrics_text(const std::string& version, const std::string& model_name,
                                 std::int64_t loaded_bytes, std::int64_t total_bytes);

HttpResponse metrics_response(std::string text);

}  // namespace redline::server
