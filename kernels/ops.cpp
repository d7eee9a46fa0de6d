#include "kernels/ops.h"

#include <cstring>

#include "kernels/check.h"

namespace redline {
namespace {

constexpr std::int64_t kVectorBytes = 4;  // of one element: norms and biases are f32

// A matrix with no rows to multiply is not read.
void charge_weight(OpCost& cost, const WeightView& weight, std::int64_t rows) {
  if (rows == 0) return;
  cost.weight_bytes = weight.type_bytes;
  cost.weight_bytes_stored = weight.stored_bytes;
}

void check_same_shape(TensorView a, TensorView b) {
  REDLINE_CHECK(a.rows == b.rows && a.cols == b.cols, "tensors of one shape");
}

}  // namespace

void Ops::begin_step(const BatchView& batch) {
  REDLINE_CHECK(
      batch.positions.size() == batch.token_ids.size() && batch.slots.size() == batch.token_ids.size(),
      "a position and a slot for every token");
  batch_ = batch;
  embedding_table_ = nullptr;
  ledger_.begin_step(batch);
  do_begin_step();
}

const StepCounts& Ops::end_step() {
  if (const std::optional<std::int64_t> busy_ns = do_end_step()) ledger_.add_busy(*busy_ns);
  return ledger_.end_step();
}

void Ops::upload(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

void Ops::download(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

PackedVector Ops::pack_vector(std::span<const float> values) {
  PackedVector packed{allocate(values.size_bytes()), std::ssize(values)};
  upload(packed.storage.data(), values.data(), values.size_bytes());
  return packed;
}

void Ops::embed(TensorView out, const WeightView& table, float scale) {
  REDLINE_CHECK(out.rows == batch_.num_tokens() && out.cols == table.cols, "embed: out is [T, H]");
  embedding_table_ = table.data;
  OpCost cost{.kind = OpKind::kEmbed};
  cost.gathered_bytes_per_row = table.type_bytes / table.rows;
  cost.activation_bytes_per_row = out.cols * element_bytes(out);
  if (scale != 1) cost.flops_per_row = out.cols;
  launch(cost, out.rows, [&] { do_embed(out, table, scale); });
}

void Ops::copy(TensorView out, TensorView x) {
  check_same_shape(out, x);
  OpCost cost{.kind = OpKind::kCopy};
  cost.activation_bytes_per_row = x.cols * (element_bytes(x) + element_bytes(out));
  launch(cost, x.rows, [&] { do_copy(out, x); });
}

void Ops::rms_norm(TensorView out, TensorView x, const float* weight, float eps, RowBasis basis) {
  check_same_shape(out, x);
  OpCost cost{.kind = OpKind::kRmsNorm, .basis = basis};
  cost.flops_per_row = 4 * x.cols;
  cost.activation_bytes_per_row = x.cols * (element_bytes(x) + element_bytes(out));
  if (x.rows > 0) cost.weight_bytes = cost.weight_bytes_stored = x.cols * kVectorBytes;
  launch(cost, x.rows, [&] { do_rms_norm(out, x, weight, eps); });
}

void Ops::add_rms_norm(TensorView out, TensorView residual, TensorView delta, const float* weight,
                       float eps) {
  check_same_shape(out, residual);
  check_same_shape(out, delta);
  OpCost cost{.kind = OpKind::kAddRmsNorm};
  cost.flops_per_row = 5 * out.cols;
  cost.activation_bytes_per_row =
      out.cols * (2 * element_bytes(residual) + element_bytes(delta) + element_bytes(out));
  if (out.rows > 0) cost.weight_bytes = cost.weight_bytes_stored = out.cols * kVectorBytes;
  launch(cost, out.rows, [&] { do_add_rms_norm(out, residual, delta, weight, eps); });
}

void Ops::rms_norm_add(TensorView out, TensorView residual, TensorView delta, const float* weight,
                       float eps) {
  check_same_shape(out, residual);
  check_same_shape(out, delta);
  OpCost cost{.kind = OpKind::kRmsNormAdd};
  cost.flops_per_row = 5 * out.cols;
  cost.activation_bytes_per_row =
      out.cols * (2 * element_bytes(residual) + element_bytes(delta) + element_bytes(out));
  if (out.rows > 0) cost.weight_bytes = cost.weight_bytes_stored = out.cols * kVectorBytes;
  launch(cost, out.rows, [&] { do_rms_norm_add(out, residual, delta, weight, eps); });
}

void Ops::linear(TensorView out, TensorView x, const WeightView& weight, Part part, RowBasis basis) {
  REDLINE_CHECK(out.rows == x.rows && out.cols == weight.rows && x.cols == weight.cols,
                "linear: x is [T, K], weight [N, K], out [T, N]");
  REDLINE_CHECK(!weight.gate_up, "linear: a gate-up matrix belongs to linear_silu_mul");
  OpCost cost{.kind = OpKind::kLinear,
              .part = part,
              .compute = compute_type(OpKind::kLinear, weight.dtype),
              .basis = basis};
  cost.flops_per_row = 2 * weight.rows * weight.cols;
  cost.activation_bytes_per_row = weight.rows * element_bytes(out) + weight.cols * element_bytes(x);
  cost.holds_gathered_rows = weight.data == embedding_table_;
  charge_weight(cost, weight, x.rows);
  launch(cost, x.rows, [&] { do_linear(out, x, weight); });
}

void Ops::linear_silu_mul(TensorView out, TensorView x, const WeightView& gate_up) {
  REDLINE_CHECK(
      out.rows == x.rows && 2 * out.cols == gate_up.rows && x.cols == gate_up.cols && gate_up.gate_up,
      "linear_silu_mul: x is [T, H], gate_up [2 F, H], out [T, F]");
  OpCost cost{.kind = OpKind::kLinearSiluMul,
              .part = Part::kFfn,
              .compute = compute_type(OpKind::kLinearSiluMul, gate_up.dtype)};
  cost.flops_per_row = 2 * gate_up.rows * gate_up.cols;
  cost.activation_bytes_per_row = out.cols * element_bytes(out) + gate_up.cols * element_bytes(x);
  charge_weight(cost, gate_up, x.rows);
  launch(cost, x.rows, [&] { do_linear_silu_mul(out, x, gate_up); });
}

void Ops::silu_mul(TensorView out, TensorView gate, TensorView up) {
  check_same_shape(out, gate);
  check_same_shape(out, up);
  OpCost cost{.kind = OpKind::kSiluMul};
  cost.flops_per_row = 5 * out.cols;
  cost.activation_bytes_per_row = 3 * out.cols * element_bytes(out);
  launch(cost, out.rows, [&] { do_silu_mul(out, gate, up); });
}

void Ops::rope_and_store_kv(TensorView qkv, int num_q_heads, const QkvTransform& transform,
                            const KvLayerView& kv) {
  const RopeView& rope = transform.rope;
  REDLINE_CHECK(qkv.rows == batch_.num_tokens() &&
                    qkv.cols == (num_q_heads + 2 * std::int64_t{kv.num_kv_heads}) * kv.head_dim,
                "rope_and_store_kv: qkv is [T, (Hq + 2 Hkv) d]");
  REDLINE_CHECK(rope.rotary_dim % 2 == 0 && rope.rotary_dim <= kv.head_dim,
                "rope: an even part of the head rotates");
  OpCost cost{.kind = OpKind::kRopeAndStoreKv};
  REDLINE_CHECK((transform.q_norm == nullptr) == (transform.k_norm == nullptr), "q and k are normed alike");
  const std::int64_t num_rotated = num_q_heads + kv.num_kv_heads, normed = num_rotated * kv.head_dim;
  cost.flops_per_row = 3 * rope.rotary_dim * num_rotated;
  std::int64_t num_weights = 0;
  if (transform.bias) {
    cost.flops_per_row += qkv.cols;
    num_weights += qkv.cols;
  }
  if (transform.q_norm) {
    cost.flops_per_row += 4 * normed;
    num_weights += transform.norm_joins_heads ? normed : 2 * std::int64_t{kv.head_dim};
  }
  if (qkv.rows > 0) cost.weight_bytes = cost.weight_bytes_stored = num_weights * kVectorBytes;
  cost.kv_write_bytes_per_token = kv.bytes_per_token();
  cost.activation_bytes_per_row = (qkv.cols + std::int64_t{num_q_heads} * kv.head_dim) * element_bytes(qkv);
  launch(cost, qkv.rows, [&] { do_rope_and_store_kv(qkv, num_q_heads, transform, kv); });
}

void Ops::paged_attention(TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv, float scale,
                          int window) {
  REDLINE_CHECK(window >= 0, "paged_attention: a window, or 0 for none");
  REDLINE_CHECK(out.rows == batch_.num_tokens() && out.cols == std::int64_t{num_q_heads} * kv.head_dim,
                "paged_attention: out is [T, Hq d]");
  REDLINE_CHECK(qkv.rows == out.rows && qkv.cols >= out.cols && num_q_heads % kv.num_kv_heads == 0,
                "paged_attention: qkv holds T rows of query heads, a multiple of the KV heads");
  OpCost cost{.kind = OpKind::kPagedAttention,
              .part = Part::kAttention,
              .compute = compute_type(OpKind::kPagedAttention, kv.dtype)};
  cost.flops_per_pair = 4 * std::int64_t{num_q_heads} * kv.head_dim;
  cost.window = window;
  cost.kv_block_size = kv.block_size;
  cost.kv_read_bytes_per_token = kv.bytes_per_token();
  cost.activation_bytes_per_row = 2 * out.cols * element_bytes(out);
  launch(cost, out.rows, [&] { do_paged_attention(out, qkv, num_q_heads, kv, scale, window); });
}

void Ops::gather_rows(TensorView out, TensorView x) {
  REDLINE_CHECK(out.rows == batch_.num_logit_rows() && x.rows == batch_.num_tokens() && out.cols == x.cols,
                "gather_rows: out is [R, H], x is [T, H]");
  OpCost cost{.kind = OpKind::kGatherRows, .basis = RowBasis::kLogits};
  cost.activation_bytes_per_row = 2 * x.cols * element_bytes(x);
  launch(cost, out.rows, [&] { do_gather_rows(out, x); });
}

void Ops::copy_kv_blocks(std::span<const KvLayerView> layers, std::span<const BlockCopy> copies) {
  if (copies.empty()) return;
  OpCost cost{.kind = OpKind::kCopyKvBlocks};
  for (const KvLayerView& layer : layers)
    cost.copied_bytes += 2 * layer.block_bytes() * static_cast<std::int64_t>(copies.size());
  launch(cost, batch_.num_tokens(), [&] { do_copy_kv_blocks(layers, copies); });
}

void Ops::all_reduce(TensorView x) { do_all_reduce(x); }

}  // namespace redline
