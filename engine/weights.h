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
  PackedVector attn_norm, ffn_norm;  // [H]
  std::vector<PackedMatrix> qkv;     // one [(Hq + 2 Hkv) d, H] where they share a type, else q, k, v
  PackedVector qkv_bias;             // [(Hq + 2 Hkv) d], or empty
  PackedVector q_norm, k_norm;       // as QkNorm says, or empty
  PackedMatrix o;
  std::optional<PackedMatrix> gate_up;   // [2 F, H] where gate and up share a type,
  std::optional<PackedMatrix> gate, up;  // else these two
  PackedMatrix down;
};

struct ModelWeights {
  PackedMatrix embedding;
  std::optional<PackedMatrix> head;  // absent: tied to the embedding
  PackedVector final_norm;           // [H], divided by logits_divisor
  std::vector<LayerWeights> layers;
  std::int64_t parameters = 0;    // tied tensors count once
  std::int64_t type_bytes = 0;    // matrices at their types' own sizes, norms in f32
  std::int64_t stored_bytes = 0;  // as packed

  const WeightView& head_view() const { return head ? head->view : embedding.view; }
};

/// What a matrix with rows of `cols` elements becomes where `dtype` is asked for: that, but a type of the
/// next size up in blocks of 32 where the blocks of 256 or 128 do not divide its rows, as llama.cpp's
/// quantiser does.
DType type_for_rows(DType dtype, std::int64_t cols);

struct LoadOptions {
  std::optional<DType>
      dtype;  // matrices become type_for_rows of this one, re-quantised where the file's differs
  std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)> progress;  // of the file's tensors
};

/// Reads, converts and packs every tensor. Norms become f32. A tensor's pages are released once it is packed;
/// re-quantising takes a copy of the largest tensor for a while. Throws ModelFileError naming the tensor
/// where a type's block does not divide a row.
ModelWeights load_weights(const Checkpoint& checkpoint, Ops& ops, const LoadOptions& options = {});

/// Weights of `config`'s shape, the same for the same seed: every matrix's rows are windows of one pool of
/// random blocks, |x| up to 2^-5, rms about 0.02; norms are 1. As fast as packing. Throws
/// std::invalid_argument naming the tensor where the type's block does not divide a row.
ModelWeights random_weights(const ModelConfig& config, DType dtype, Ops& ops, std::uint64_t seed);

/// ModelWeights::stored_bytes of what load_weights and random_weights would make.
std::int64_t weight_memory_bytes(const Checkpoint& checkpoint, const Ops& ops,
                                 std::optional<DType> dtype = {});
std::int64_t weight_memory_bytes(const ModelConfig& config, DType dtype, const Ops& ops);

}  // namespace redline
