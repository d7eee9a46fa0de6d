#include "engine/weights.h"

#include <array>
#include <stdexcept>
#include <utility>

#include "kernels/convert.h"

namespace redline {
namespace {

// The rows of `parts`, which share a type and a row length, one after another.
MatrixSource join(std::vector<MatrixSource> parts) {
  MatrixSource joined{parts.front().dtype, 0, parts.front().cols, {}};
  for (const auto& part : parts) joined.rows += part.rows;
  joined.row = [parts = std::move(parts)](std::int64_t row) {
    auto part = parts.begin();
    for (; row >= part->rows; ++part) row -= part->rows;
    return part->row(row);
  };
  return joined;
}

class WeightLoader {
 public:
  WeightLoader(const Checkpoint& checkpoint, Ops& ops, const LoadOptions& options)
      : checkpoint_(checkpoint), ops_(ops), options_(options) {}

  ModelWeights load() {
    const ModelConfig& config = checkpoint_.config();
    for_each_tensor([&](TensorRole role, std::int64_t layer) {
      total_bytes_ += static_cast<std::int64_t>(checkpoint_.tensor(role, layer).data.size());
    });
    weights_.embedding = pack(TensorRole::kEmbedding, 0);
    for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
      weights_.layers.push_back(load_layer(layer));
    weights_.final_norm = norm(TensorRole::kFinalNorm, 0);
    if (!config.tied_embeddings) weights_.head = pack(TensorRole::kHead, 0);
    return std::move(weights_);
  }

 private:
  template <class Visit>
  void for_each_tensor(Visit&& visit) const {
    for (int i = 0; i < kNumTensorRoles; ++i) {
      const auto role = static_cast<TensorRole>(i);
      if (role == TensorRole::kHead && checkpoint_.config().tied_embeddings) continue;
      for (std::int64_t layer = 0; layer < (is_per_layer(role) ? checkpoint_.config().num_layers : 1);
           ++layer)
        visit(role, layer);
    }
  }

  LayerWeights load_layer(std::int64_t layer) {
    LayerWeights weights;
    weights.attn_norm = norm(TensorRole::kAttnNorm, layer);
    weights.qkv = pack_qkv(layer);
    weights.o = pack(TensorRole::kO, layer);
    weights.ffn_norm = norm(TensorRole::kFfnNorm, layer);
    const auto gate = checkpoint_.matrix(TensorRole::kGate, layer),
               up = checkpoint_.matrix(TensorRole::kUp, layer);
    if (gate.dtype == up.dtype) {
      weights.gate_up = count(ops_.pack_gate_up(gate, up));
      done(TensorRole::kGate, layer);
      done(TensorRole::kUp, layer);
    } else {
      weights.gate = pack(TensorRole::kGate, layer);
      weights.up = pack(TensorRole::kUp, layer);
    }
    weights.down = pack(TensorRole::kDown, layer);
    return weights;
  }

  std::vector<PackedMatrix> pack_qkv(std::int64_t layer) {
    constexpr std::array kRoles = {TensorRole::kQ, TensorRole::kK, TensorRole::kV};
    std::vector<MatrixSource> sources;
    for (const auto role : kRoles) sources.push_back(checkpoint_.matrix(role, layer));
    std::vector<PackedMatrix> packed;
    if (sources[0].dtype == sources[1].dtype && sources[0].dtype == sources[2].dtype) {
      packed.push_back(count(ops_.pack(join(std::move(sources)))));
      for (const auto role : kRoles) done(role, layer);
    } else {
      for (const auto role : kRoles) packed.push_back(pack(role, layer));
    }
    return packed;
  }

  PackedMatrix pack(TensorRole role, std::int64_t layer) {
    auto packed = count(ops_.pack(checkpoint_.matrix(role, layer)));
    done(role, layer);
    return packed;
  }

  std::vector<float> norm(TensorRole role, std::int64_t layer) {
    const FileTensor& tensor = checkpoint_.tensor(role, layer);
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    dequantize_row(tensor.dtype, tensor.data.data(), tensor.elements(), values.data());
    const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(float));
    weights_.type_bytes += bytes;
    weights_.stored_bytes += bytes;
    done(role, layer);
    return values;
  }

  PackedMatrix count(PackedMatrix packed) {
    weights_.type_bytes += packed.view.type_bytes;
    weights_.stored_bytes += packed.view.stored_bytes;
    return packed;
  }

  void done(TensorRole role, std::int64_t layer) {
    const FileTensor& tensor = checkpoint_.tensor(role, layer);
    tensor.file->release(tensor.data);
    weights_.parameters += tensor.elements();
    done_bytes_ += static_cast<std::int64_t>(tensor.data.size());
    if (options_.progress) options_.progress(done_bytes_, total_bytes_);
  }

  const Checkpoint& checkpoint_;
  Ops& ops_;
  const LoadOptions& options_;
  ModelWeights weights_;
  std::int64_t done_bytes_ = 0, total_bytes_ = 0;
};

}  // namespace

ModelWeights load_weights(const Checkpoint& checkpoint, Ops& ops, const LoadOptions& options) {
  if (options.dtype) throw std::invalid_argument("re-quantising at load is not supported yet");
  return WeightLoader(checkpoint, ops, options).load();
}

}  // namespace redline
