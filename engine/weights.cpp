#include "engine/weights.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "engine/weight_source.h"

namespace redline {
namespace {

constexpr std::array kQkvRoles = {TensorRole::kQ, TensorRole::kK, TensorRole::kV};
constexpr std::array kQkvBiasRoles = {TensorRole::kQBias, TensorRole::kKBias, TensorRole::kVBias};

bool one_qkv(const WeightSource& source, std::int64_t layer) {
  const DType q = source.dtype(TensorRole::kQ, layer);
  return source.dtype(TensorRole::kK, layer) == q && source.dtype(TensorRole::kV, layer) == q;
}

bool one_gate_up(const WeightSource& source, std::int64_t layer) {
  return source.dtype(TensorRole::kGate, layer) == source.dtype(TensorRole::kUp, layer);
}

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

class WeightBuilder {
 public:
  WeightBuilder(const ModelConfig& config, WeightSource& source, Ops& ops)
      : config_(config), source_(source), ops_(ops) {}

  ModelWeights build() {
    weights_.embedding = pack(TensorRole::kEmbedding, 0);
    for (std::int64_t layer = 0; layer < config_.num_layers; ++layer)
      weights_.layers.push_back(build_layer(layer));
    weights_.final_norm = final_norm();
    if (!config_.tied_embeddings) weights_.head = pack(TensorRole::kHead, 0);
    return std::move(weights_);
  }

 private:
  LayerWeights build_layer(std::int64_t layer) {
    LayerWeights weights;
    weights.attn_norm = vector(TensorRole::kAttnNorm, layer);
    weights.qkv = pack_qkv(layer);
    if (config_.qkv_bias) weights.qkv_bias = pack_qkv_bias(layer);
    if (config_.qk_norm != QkNorm::kNone) {
      weights.q_norm = vector(TensorRole::kQNorm, layer);
      weights.k_norm = vector(TensorRole::kKNorm, layer);
    }
    weights.o = pack(TensorRole::kO, layer);
    weights.ffn_norm = vector(TensorRole::kFfnNorm, layer);
    if (one_gate_up(source_, layer)) {
      weights.gate_up = count(ops_.pack_gate_up(source_.matrix(TensorRole::kGate, layer),
                                                source_.matrix(TensorRole::kUp, layer)));
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
    std::vector<PackedMatrix> packed;
    if (one_qkv(source_, layer)) {
      std::vector<MatrixSource> parts;
      for (const auto role : kQkvRoles) parts.push_back(source_.matrix(role, layer));
      packed.push_back(count(ops_.pack(join(std::move(parts)))));
      for (const auto role : kQkvRoles) done(role, layer);
    } else {
      for (const auto role : kQkvRoles) packed.push_back(pack(role, layer));
    }
    return packed;
  }

  // Logits are linear in what the head reads: their divisor divides the norm before it.
  PackedVector final_norm() {
    std::vector<float> values = source_.vector(TensorRole::kFinalNorm, 0);
    done(TensorRole::kFinalNorm, 0);
    for (float& value : values) value /= static_cast<float>(config_.logits_divisor);
    return pack_vector(values);
  }

  PackedVector pack_qkv_bias(std::int64_t layer) {
    std::vector<float> joined;
    for (const auto role : kQkvBiasRoles) {
      std::ranges::copy(source_.vector(role, layer), std::back_inserter(joined));
      done(role, layer);
    }
    return pack_vector(joined);
  }

  PackedMatrix pack(TensorRole role, std::int64_t layer) {
    auto packed = count(ops_.pack(source_.matrix(role, layer)));
    done(role, layer);
    return packed;
  }

  PackedVector vector(TensorRole role, std::int64_t layer) {
    PackedVector packed = pack_vector(source_.vector(role, layer));
    done(role, layer);
    return packed;
  }

  PackedVector pack_vector(std::span<const float> values) {
    weights_.type_bytes += static_cast<std::int64_t>(values.size_bytes());
    weights_.stored_bytes += static_cast<std::int64_t>(values.size_bytes());
    return ops_.pack_vector(values);
  }

  PackedMatrix count(PackedMatrix packed) {
    weights_.type_bytes += packed.view.type_bytes;
    weights_.stored_bytes += packed.view.stored_bytes;
    return packed;
  }

  void done(TensorRole role, std::int64_t layer) {
    std::int64_t elements = 1;
    for (const auto dim : tensor_shape(role, config_)) elements *= dim;
    weights_.parameters += elements;
    source_.done(role, layer);
  }

  const ModelConfig& config_;
  WeightSource& source_;
  Ops& ops_;
  ModelWeights weights_;
};

// Follows WeightBuilder: the same matrices, joined alike.
std::int64_t memory_bytes(const ModelConfig& config, const WeightSource& source, const Ops& ops) {
  std::int64_t bytes = 0;
  for_each_tensor(config, [&](TensorRole role, std::int64_t layer) {
    const auto shape = tensor_shape(role, config);
    if (shape.size() == 1) {
      bytes += shape[0] * static_cast<std::int64_t>(sizeof(float));
      return;
    }
    std::int64_t rows = shape[0];
    if (role == TensorRole::kQ && one_qkv(source, layer)) rows = config.qkv_size();
    if ((role == TensorRole::kK || role == TensorRole::kV) && one_qkv(source, layer)) return;
    if (role == TensorRole::kGate && one_gate_up(source, layer)) rows *= 2;
    if (role == TensorRole::kUp && one_gate_up(source, layer)) return;
    bytes += ops.packed_bytes(source.dtype(role, layer), rows, shape[1]);
  });
  return bytes;
}

}  // namespace

DType type_for_rows(DType dtype, std::int64_t cols) {
  if (cols % traits(dtype).block_elements == 0) return dtype;
  switch (dtype) {
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kIQ4_XS:
      return DType::kIQ4_NL;
    case DType::kQ4_K:
      return DType::kQ5_0;
    case DType::kQ5_K:
      return DType::kQ5_1;
    case DType::kQ6_K:
    case DType::kF8E4M3:
      return DType::kQ8_0;
    default:
      return dtype;
  }
}

ModelWeights load_weights(const Checkpoint& checkpoint, Ops& ops, const LoadOptions& options) {
  const auto source = make_file_weights(checkpoint, options, ops.num_threads());
  return WeightBuilder(checkpoint.config(), *source, ops).build();
}

ModelWeights random_weights(const ModelConfig& config, DType dtype, Ops& ops, std::uint64_t seed) {
  const auto source = make_random_weights(config, dtype, seed);
  return WeightBuilder(config, *source, ops).build();
}

std::int64_t weight_memory_bytes(const Checkpoint& checkpoint, const Ops& ops, std::optional<DType> dtype) {
  LoadOptions options;
  options.dtype = dtype;
  return memory_bytes(checkpoint.config(), *make_file_weights(checkpoint, options, 1), ops);
}

std::int64_t weight_memory_bytes(const ModelConfig& config, DType dtype, const Ops& ops) {
  return memory_bytes(config, *make_random_weights(config, dtype, 0), ops);
}

}  // namespace redline
