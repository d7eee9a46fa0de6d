// What the meter costs: decode steps of one model with the ledger on and off, in turns.
//
//   meter_cost [MODEL | SHAPE] [PAIRS]      (default: llama-3.2-1b in q8_0, 100)
//
// Two measurements. The steps themselves, paired: what a user would notice, but drowned in the machine's
// noise. And the same calls on a backend whose operations do nothing, so that only the host's work is left:
// the difference there, by the time of a real step, is the answer.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/meter/probe.h"
#include "engine/meter/utilization.h"
#include "engine/model.h"
#include "engine/weights.h"
#include "kvcache/kv_cache.h"

namespace redline {
namespace {

// Takes every call and does nothing.
class IdleOps final : public Ops {
 public:
  explicit IdleOps(const Ops& like) : like_(like) {}
  std::string name() const override { return "idle"; }
  ComputeType compute_type(OpKind kind, DType weight) const override {
    return like_.compute_type(kind, weight);
  }
  std::int64_t packed_bytes(DType, std::int64_t, std::int64_t) const override { return 0; }
  PackedMatrix pack(const MatrixSource&) override { return {}; }
  PackedMatrix pack_gate_up(const MatrixSource&, const MatrixSource&) override { return {}; }
  void unpack_row(const WeightView&, std::int64_t, float*) const override {}

 private:
  void do_embed(TensorView, const WeightView&, float) override {}
  void do_copy(TensorView, TensorView) override {}
  void do_rms_norm(TensorView, TensorView, const float*, float) override {}
  void do_add_rms_norm(TensorView, TensorView, TensorView, const float*, float) override {}
  void do_rms_norm_add(TensorView, TensorView, TensorView, const float*, float) override {}
  void do_linear(TensorView, TensorView, const WeightView&) override {}
  void do_linear_silu_mul(TensorView, TensorView, const WeightView&) override {}
  void do_silu_mul(TensorView, TensorView, TensorView) override {}
  void do_rope_and_store_kv(TensorView, int, const QkvTransform&, const KvLayerView&) override {}
  void do_paged_attention(TensorView, TensorView, int, const KvLayerView&, float, int) override {}
  void do_gather_rows(TensorView, TensorView) override {}
  void do_copy_kv_blocks(std::span<const KvLayerView>, std::span<const BlockCopy>) override {}

  const Ops& like_;
};

class Decoder {
 public:
  Decoder(LoadedModel& model, const DevicePeaks& peaks)
      : config_(model.config),
        cache_({.num_layers = static_cast<std::int32_t>(config_.num_layers),
                .num_kv_heads = static_cast<std::int32_t>(config_.num_kv_heads),
                .head_dim = static_cast<std::int32_t>(config_.head_dim),
                .num_blocks = kBlocks}),
        transformer_(config_, *model.weights),
        batch_(16, kBlocks),
        meter_(peaks, model.weights->stored_bytes),
        logits_(static_cast<std::size_t>(config_.vocab_size)) {
    for (BlockId block = 0; block < kBlocks; ++block) blocks_.push_back(block);
    batch_.add({.tokens = token_,
                .num_cached = kDepth,
                .blocks = &blocks_,
                .phase = Phase::kDecode,
                .logits = LogitRows::kLast});
  }

  double step_s(Ops& ops, bool metered) {
    ops.ledger().set_enabled(metered);
    const auto start = std::chrono::steady_clock::now();
    ops.begin_step(batch_.view());
    transformer_.forward(ops, batch_.view(), cache_, f32_view(logits_.data(), 1, config_.vocab_size));
    const StepCounts& counts = ops.end_step();
    if (metered) meter_.add_step(counts, {.wall_ns = 1, .gap_ns = 0});
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  static constexpr std::int32_t kDepth = 128, kBlocks = 16;

  const ModelConfig& config_;
  KvCache cache_;
  Model transformer_;
  Batch batch_;
  BlockTable blocks_;
  UtilizationMeter meter_;
  std::vector<std::int32_t> token_ = {1};
  std::vector<float> logits_;
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

struct Pairs {
  double off_s = 0, on_s = 0, difference_s = 0;  // medians
};

Pairs measure(Decoder& decoder, Ops& ops, int num_pairs) {
  std::vector<double> off, on, difference;
  for (int i = 0; i < num_pairs; ++i) {
    const bool first = i % 2 == 0;  // who goes first alternates
    const double a = decoder.step_s(ops, first), b = decoder.step_s(ops, !first);
    on.push_back(first ? a : b);
    off.push_back(first ? b : a);
    difference.push_back(on.back() - off.back());
  }
  return {median(off), median(on), median(difference)};
}

int run(const std::string& reference, int num_pairs) {
  const auto model = std::filesystem::exists(reference) ? LoadedModel::open(reference, {})
                                                        : LoadedModel::random(reference, DType::kQ8_0, {});
  const DevicePeaks peaks = peaks_for(*model->ops);
  IdleOps idle(*model->ops);
  for (Ops* ops : {model->ops.get(), static_cast<Ops*>(&idle)})
    ops->ledger().set_peaks(peaks.attainable(), peaks.vendor());
  Decoder decoder(*model, peaks);
  measure(decoder, *model->ops, 3);
  measure(decoder, idle, 100);
  const Pairs steps = measure(decoder, *model->ops, num_pairs), host = measure(decoder, idle, 2000);
  std::printf("decode step of %s on %s, %d threads: %.3f ms without the meter\n", reference.c_str(),
              model->ops->name().c_str(), model->ops->num_threads(), 1e3 * steps.off_s);
  std::printf("the meter alone: %.2f us, %.3f %% of the step\n", 1e6 * host.difference_s,
              100 * host.difference_s / steps.off_s);
  std::printf("steps in turns, %d pairs: %+.3f %%\n", num_pairs, 100 * steps.difference_s / steps.off_s);
  return 0;
}

}  // namespace
}  // namespace redline

int main(int argc, char** argv) {
  try {
    return redline::run(argc > 1 ? argv[1] : "llama-3.2-1b",
                        argc > 2 ? std::max(1, std::atoi(argv[2])) : 100);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "meter_cost: %s\n", error.what());
    return 1;
  }
}
