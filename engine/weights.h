// A model's weights as a backend packed them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "kernels/ops.h"

namespace redline {

/// One transformer layer. Shapes and symbols as TensorRole says.
struct LayerWeights {
  std::vector<float> attn_norm, ffn_norm;  // [H]
  std::vector<PackedMatrix> qkv;           // one [(Hq + 2 Hkv) d, H] where they share a type, else q, k, v
  PackedMatrix o;
  std::optional<PackedMatrix> gate_up;   // [2 F, H] where gate and up share a type,
  std::optional<PackedMatrix> gate, up;  // else these two
  PackedMatrix down;
};

struct ModelWeights {
  PackedMatrix embedding;
  std::optional<PackedMatrix> head;  // absent: tied to the embedding
  std::vector<float> final_norm;     // [H]
  std::vector<LayerWeights> layers;
  std::int64_t parameters = 0;    // tied tensors count once
  std::int64_t type_bytes = 0;    // matrices at their types' own sizes, norms in f32
  std::int64_t stored_bytes = 0;  // as packed

  const WeightView& head_view() const { return head ? head->view : embedding.view; }
};

struct LoadOptions {
  std::optional<DType> dtype;  // matrices are stored in this type, re-quantised where the file's differs
  std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)> progress;  // of the file's tensors
};

/// Reads, converts and packs every tensor. Norms become f32. A tensor's pages are released once it is packed.
/// Throws ModelFileError where a type's block does not divide a row.
ModelWeights load_weights(const Checkpoint& checkpoint, Ops& ops, const LoadOptions& options = {});

}  // namespace redline
