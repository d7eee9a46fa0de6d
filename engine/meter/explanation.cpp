#include "engine/meter/explanation.h"

#include <nlohmann/json.hpp>

#include "engine/engine.h"
#include "engine/weights.h"

namespace redline {

using Json = nlohmann::ordered_json;

DiagnosedModel diagnosed(const LoadedModel& model, DType kv_dtype) {
  DiagnosedModel result{
      .config = model.config,
      .weights = stored_weights(model.config, *model.weights),
      .kv_dtype = kv_dtype,
      .compute_of = [&ops = *model.ops](OpKind kind, DType type) { return ops.compute_type(kind, type); },
      .packed_bytes = model.weights->stored_bytes};
  if (model.ops->uses_host_memory()) result.kv_types = {DType::kQ8_0};
  return result;
}

Explanation explain(const UtilizationMeter& meter, const DiagnosedModel& model,
                    const ExplainedWindow& window) {
  PhaseTotalsArray ran = meter.totals();
  for (std::size_t p = 0; p < kNumPhases && window.also; ++p)
    if (ran[p].steps == 0) ran[p] = (*window.also)[p];
  Explanation result;
  result.waterfall = waterfall_of(meter.totals(), meter.peaks(), window.wall_s, window.idle_s, window.clock);
  if (result.waterfall) result.why = diagnose(ran, *result.waterfall, meter.peaks(), model);
  result.notes = notes(model, meter.peaks(), window.clock);
  return result;
}

Json Explanation::json() const {
  Json sentences = Json::array();
  for (const Diagnosis& diagnosis : why) sentences.push_back(to_json(diagnosis));
  return {{"waterfall", waterfall ? to_json(*waterfall) : Json()}, {"why", sentences}, {"notes", notes}};
}

void Explanation::add_to(Json& utilization) const {
  utilization["waterfall"] = waterfall ? nanoseconds_json(waterfall->whole, waterfall->basis) : Json();
  if (utilization.contains("phases"))
    for (std::size_t p = 0; p < kNumPhases; ++p)
      utilization["phases"][kPhaseNames[p]]["waterfall"] =
          waterfall ? nanoseconds_json(busy_terms(waterfall->phases[p]), waterfall->basis) : Json();
  Json& findings = utilization["why"] = Json::array();
  for (const Diagnosis& diagnosis : why) findings.push_back(finding_json(diagnosis));
}

std::string Explanation::report() const {
  std::string text = waterfall ? redline::report(*waterfall)
                               : "Where the time went is unknown: no peaks of this device are known.\n";
  for (const Diagnosis& diagnosis : why) text += diagnosis.sentence() + ".\n";
  for (const std::string& note : notes) text += "Note: " + note + ".\n";
  return text;
}

}  // namespace redline
