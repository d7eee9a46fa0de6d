#include "tools/redline/outside_flags.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "engine/checkpoint.h"
#include "engine/hf_config.h"
#include "engine/meter/hardware.h"
#include "engine/meter/probe.h"
#include "engine/model_reference.h"

namespace redline {
namespace {

namespace fs = std::filesystem;

/// Shapes from config.json alone where there are no weights beside it.
std::pair<ModelConfig, StoredWeights> shapes_of(const std::string& reference, std::optional<DType> dtype) {
  const fs::path path = find_model(reference).path;
  const auto is_weights = [](const fs::directory_entry& entry) {
    return entry.path().extension() == ".safetensors";
  };
  if (fs::is_directory(path) &&
      std::none_of(fs::directory_iterator(path), fs::directory_iterator(), is_weights)) {
    const ModelConfig config = read_hf_config(path / "config.json");
    return {config, stored_weights(config, dtype.value_or(DType::kBF16))};
  }
  const Checkpoint checkpoint(reference);
  return {checkpoint.config(), stored_weights(checkpoint, dtype)};
}

Peaks times(Peaks peaks, double num) {
  for (double& rate : peaks.flops) rate *= num;
  peaks.bandwidth *= num;
  return peaks;
}

}  // namespace

void OutsideFlags::add_to(Flags& flags) {
  flags.text("--on", "NAME", "The device that the server runs on: this, h100, h200, a100, ...", on_);
  flags.number("--num-devices", "So many of them, which share the model", num_devices_, 1);
  flags.dtype("--dtype", "The type that the server stores weights in (default: as the files do)", dtype_);
  flags.dtype("--kv-dtype", "The type that the server caches in; f16 is as long as bf16", kv_dtype_,
              {DType::kBF16, DType::kF32, DType::kQ8_0});
  flags.size("--max-num-seqs", "As the server was started: sequences at a time (default: not known)",
             most_sequences_);
  flags.size("--max-num-batched-tokens", "As the server was started: tokens a step (default: not known)",
             most_rows_);
  flags.size("--max-model-len",
             "As the server was started: tokens of a sequence (default: the model's limit)", longest_);
}

OutsideFlags::Subject OutsideFlags::subject() const {
  auto [config, weights] = shapes_of(model, dtype_);
  load::ServerLimits limits{most_sequences_, most_rows_, longest_ > 0 ? longest_ : config.max_positions};
  const auto on = [&](Estimate::ComputeOf compute_of, OutsideDevice device) {
    device.num_devices = num_devices_;
    device.peaks = times(device.peaks, num_devices_);
    return Subject{Estimate(config, weights, kv_dtype_, std::move(compute_of)), std::move(device), limits};
  };
  if (on_ == "this") {
    const std::shared_ptr<Ops> ops = make_cpu_ops();
    const DevicePeaks peaks = peaks_for(*ops);
    const bool vendor = peaks.vendor().bandwidth > 0;
    return on([ops](OpKind kind, DType type) { return ops->compute_type(kind, type); },
              {.name = peaks.device_name,
               .peak_basis = vendor ? "vendor" : "attainable",
               .peaks = vendor ? peaks.vendor() : peaks.attainable()});
  }
  if (const HardwareSpec* spec = find_hardware(on_))
    return on(Estimate::bf16_compute, {.name = spec->name, .peaks = spec->peaks()});
  std::string names = "this";
  for (const HardwareSpec& spec : known_hardware()) names += ", " + spec.id;
  throw UsageError("--on: '" + on_ + "' is not known; there are " + names);
}

OutsideView OutsideFlags::Subject::seen(OutsideView view) const {
  view.device = device;
  view.work = outside_work(view.counts, estimate);
  return view;
}

}  // namespace redline
