// The operations of CpuOps that work row by row.
#include <algorithm>
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/cpu_ops.h"

namespace redline {

// Calls body(row) for every row, so many at once as are worth waking a thread for: few run on the caller.
template <class Body>
void CpuOps::for_each_row(std::int64_t rows, std::int64_t elements_per_row, Body&& body) {
  constexpr std::int64_t kElementsPerChunk = 8192;  // about a microsecond
  const std::int64_t rows_per_chunk = std::max<std::int64_t>(1, kElementsPerChunk / elements_per_row);
  pool_.run((rows + rows_per_chunk - 1) / rows_per_chunk, [&](std::int64_t chunk, int) {
    const std::int64_t end = std::min(rows, (chunk + 1) * rows_per_chunk);
    for (std::int64_t row = chunk * rows_per_chunk; row < end; ++row) body(row);
  });
}

void CpuOps::do_embed(TensorView out, const WeightView& table, float scale) {
  for_each_row(out.rows, out.cols, [&](std::int64_t row) {
    unpack_row(table, batch().token_ids[static_cast<std::size_t>(row)], out.f32(row));
    if (scale == 1) return;
    for (std::int64_t i = 0; i < out.cols; ++i) out.f32(row)[i] *= scale;
  });
}

void CpuOps::do_copy(TensorView out, TensorView x) {
  for_each_row(x.rows, x.cols, [&](std::int64_t row) {
    std::memcpy(out.f32(row), x.f32(row), static_cast<std::size_t>(x.cols) * sizeof(float));
  });
}

void CpuOps::do_rms_norm(TensorView out, TensorView x, const float* weight, float eps) {
  for_each_row(x.rows, x.cols, [&](std::int64_t row) {
    kernels_.elementwise->rms_norm(out.f32(row), x.f32(row), weight, x.cols, eps);
  });
}

void CpuOps::do_add_rms_norm(TensorView out, TensorView residual, TensorView delta, const float* weight,
                             float eps) {
  for_each_row(out.rows, out.cols, [&](std::int64_t row) {
    kernels_.elementwise->add_rms_norm(out.f32(row), residual.f32(row), delta.f32(row), weight, out.cols,
                                       eps);
  });
}

void CpuOps::do_rms_norm_add(TensorView out, TensorView residual, TensorView delta, const float* weight,
                             float eps) {
  for_each_row(out.rows, out.cols, [&](std::int64_t row) {
    kernels_.elementwise->rms_norm_add(out.f32(row), residual.f32(row), delta.f32(row), weight, out.cols,
                                       eps);
  });
}

void CpuOps::do_silu_mul(TensorView out, TensorView gate, TensorView up) {
  for_each_row(out.rows, out.cols, [&](std::int64_t row) {
    kernels_.elementwise->silu_mul(out.f32(row), gate.f32(row), up.f32(row), out.cols);
  });
}

void CpuOps::do_rope_and_store_kv(TensorView qkv, int num_q_heads, const QkvTransform& transform,
                                  const KvLayerView& kv) {
  const RopeView& rope = transform.rope;
  REDLINE_CHECK(kv.dtype == DType::kF32 || kv.dtype == DType::kBF16 || kv.dtype == DType::kQ8_0,
                "the cache is f32, bf16 or q8_0");
  for_each_row(qkv.rows, qkv.cols, [&](std::int64_t row) {
    const std::int64_t position = batch().positions[static_cast<std::size_t>(row)];
    const std::int64_t slot = batch().slots[static_cast<std::size_t>(row)];
    REDLINE_CHECK(position >= 0 && position < rope.num_positions, "the rope table covers every position");
    REDLINE_CHECK(slot >= 0 && slot < kv.num_blocks * kv.block_size, "a slot of the cache");
    const std::int64_t block = slot / kv.block_size, angles = position * (rope.rotary_dim / 2);
    const int offset = static_cast<int>(slot % kv.block_size);
    kernels_.elementwise->rope_and_store(
        {.heads = qkv.f32(row),
         .cos = rope.cos + angles,
         .sin = rope.sin + angles,
         .bias = transform.bias,
         .q_norm = transform.q_norm,
         .k_norm = transform.k_norm,
         .norm_joins_heads = transform.norm_joins_heads,
         .norm_eps = transform.norm_eps,
         .k = kv.k_tile(block, 0) + kv.k_index(offset, 0) * kv.element_bytes(),
         .v = kv.v_tile(block, 0) + kv.v_index(offset, 0) * kv.element_bytes(),
         .head_bytes = 2 * kv.tile_bytes(),
         .num_q_heads = num_q_heads,
         .num_kv_heads = kv.num_kv_heads,
         .head_dim = kv.head_dim,
         .rotary_dim = rope.rotary_dim,
         .block_size = kv.block_size,
         .dtype = kv.dtype,
         .k_scales = kv.k_tile(block, 0) + kv.k_scale(offset, 0),
         .v_scales = kv.v_tile(block, 0) + kv.v_scale(offset, 0)});
  });
}

void CpuOps::do_paged_attention(TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv,
                                float scale, int window) {
  attention_.run(batch(), out, qkv, num_q_heads, kv, scale, window);
}

void CpuOps::do_gather_rows(TensorView out, TensorView x) {
  for_each_row(out.rows, out.cols, [&](std::int64_t row) {
    std::memcpy(out.f32(row), x.f32(batch().logit_rows[static_cast<std::size_t>(row)]),
                static_cast<std::size_t>(x.cols) * sizeof(float));
  });
}

void CpuOps::do_copy_kv_blocks(std::span<const KvLayerView> layers, std::span<const BlockCopy> copies) {
  pool_.run(static_cast<std::int64_t>(layers.size()), [&](std::int64_t i, int) {
    const KvLayerView& layer = layers[static_cast<std::size_t>(i)];
    for (const BlockCopy& copy : copies)
      std::memcpy(layer.k_tile(copy.target, 0), layer.k_tile(copy.source, 0),
                  static_cast<std::size_t>(layer.block_bytes()));
  });
}

}  // namespace redline
