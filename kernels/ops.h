// The operations of a transformer, and the one place where work is launched: each public method checks
// shapes, charges the ledger, then calls the backend's private do_*. Backends implement only do_*, so nothing
// runs uncharged.
//
// Shape letters: T token rows, R logit rows, S sequences, H hidden size, Hq / Hkv query / KV heads, d head
// dim, F FFN width, V vocabulary. Activations are f32 on the CPU; a device keeps the residual stream and the
// logits in f32 and the rest in its activation_dtype. Sums: each output is one chain in an order that
// depends on its row and on absolute position alone, so results do not depend on batch composition, chunking
// or thread count.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/batch.h"
#include "kernels/ledger.h"
#include "kernels/tensor.h"

namespace redline {

/// A matrix to pack: `rows` rows of `cols` elements in `dtype`'s own row format. `row(i)` points at row i's
/// bytes and may be called from several threads; it lets the loader permute rows, or join tensors, without a
/// copy.
struct MatrixSource {
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::function<const std::byte*(std::int64_t)> row;
};

/// A packed matrix and the memory that holds it.
struct PackedMatrix {
  WeightView view;
  Buffer storage;
};

/// A vector of f32 weights in a backend's memory: norms, biases.
struct PackedVector {
  Buffer storage;
  std::int64_t size = 0;

  const float* data() const { return reinterpret_cast<const float*>(storage.data()); }
};

/// cos and sin of the rotary angles: [positions, rotary_dim / 2] each, row p for position p. The first
/// rotary_dim dimensions of a head rotate as pairs (i, i + rotary_dim / 2); the rest pass through.
struct RopeView {
  const float* cos = nullptr;
  const float* sin = nullptr;
  std::int64_t num_positions = 0;
  int rotary_dim = 0;
};

/// What a layer's heads go through between the QKV product and attention, in this order: bias, norm,
/// rotation.
struct QkvTransform {
  RopeView rope;                  // of q and k; rotary_dim 0: none
  const float* bias = nullptr;    // [(Hq + 2 Hkv) d], added to q, k and v; null: none
  const float* q_norm = nullptr;  // weights of an RMS norm of q, and of k; null, both: none
  const float* k_norm = nullptr;
  bool norm_joins_heads =
      false;  // one norm over all heads, weights [Hq d] and [Hkv d]; else a norm a head, [d]
  float norm_eps = 0;
};

class Ops {
 public:
  virtual ~Ops() = default;
  Ops(const Ops&) = delete;
  Ops& operator=(const Ops&) = delete;

  /// "cpu avx2", "reference", ...
  virtual std::string name() const = 0;
  virtual int num_threads() const { return 1; }
  /// The arithmetic that `kind` runs in on weights of `weight` (attention: on a cache of `weight`).
  virtual ComputeType compute_type(OpKind kind, DType weight) const = 0;
  /// The rates that this device attains, measured anew in a fraction of a second; nothing where others
  /// measure them (kernels/cpu/ceilings.h).
  virtual std::optional<Peaks> measure_peaks() { return std::nullopt; }

  // --- memory: what the operations' views point into ---
  /// Whether that is the host's memory; if not, host and backend exchange by upload and download alone.
  virtual bool uses_host_memory() const { return true; }
  /// Zeroed. Throws std::bad_alloc, or on a device std::runtime_error with the bytes needed and free.
  virtual Buffer allocate(std::size_t bytes) { return Buffer(bytes); }
  /// Bytes that a device has free; nothing where the host's memory is used.
  virtual std::optional<std::int64_t> free_device_bytes() const { return std::nullopt; }
  /// Host to backend; `from` may be reused when it returns.
  virtual void upload(void* to, const void* from, std::size_t bytes);
  /// Backend to host, after all work that was launched before.
  virtual void download(void* to, const void* from, std::size_t bytes);
  /// The type of every activation but the residual stream and the logits, which are f32.
  virtual DType activation_dtype() const { return DType::kF32; }
  /// Rows that a step of `rows` may write in what it is given: a device may run padded sizes.
  virtual std::int64_t padded_rows(std::int64_t rows) const { return rows; }
  /// How the caches lie that this backend attends over.
  virtual KvTiles kv_tiles() const { return KvTiles::kTransposed; }

  // --- loading ---
  /// Bytes that pack(...) will allocate.
  virtual std::int64_t packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols) const = 0;
  /// Packs once, in parallel. Requires cols to be a multiple of the type's block.
  virtual PackedMatrix pack(const MatrixSource& source) = 0;
  /// Gate and up [F, H] of one type into one [2 F, H] matrix for linear_silu_mul.
  virtual PackedMatrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up) = 0;
  /// Writes row `row` of a packed matrix as f32 to out[0 .. cols).
  virtual void unpack_row(const WeightView& weight, std::int64_t row, float* out) const = 0;
  PackedVector pack_vector(std::span<const float> values);

  // --- a step ---
  Ledger& ledger() { return ledger_; }
  /// Fixes the geometry that the following operations are checked against and charged by. `batch` must
  /// outlive the step.
  void begin_step(const BatchView& batch);
  /// Waits for the step's work. The counts are valid until the next begin_step.
  const StepCounts& end_step();

  /// out[T, H] = scale * table[token_ids]. Reads T rows of the table. 0 FLOPs.
  void embed(TensorView out, const WeightView& table, float scale = 1);
  /// out = x, rounded to out's type. Both [T, H].
  void copy(TensorView out, TensorView x);
  /// out = x / rms(x) * weight over rows of H; rms(x) = sqrt(mean(x^2) + eps). weight: H f32. out may be x.
  void rms_norm(TensorView out, TensorView x, const float* weight, float eps,
                RowBasis basis = RowBasis::kTokens);
  /// residual += delta, then out = rms_norm(residual). All [T, H].
  void add_rms_norm(TensorView out, TensorView residual, TensorView delta, const float* weight, float eps);
  /// residual += rms_norm(delta), then out = residual. All [T, H].
  void rms_norm_add(TensorView out, TensorView residual, TensorView delta, const float* weight, float eps);
  /// out[T, N] = x[T, K] weight[N, K]^T. 2 T N K FLOPs.
  void linear(TensorView out, TensorView x, const WeightView& weight, Part part,
              RowBasis basis = RowBasis::kTokens);
  /// out[T, F] = silu(x gate^T) * (x up^T), with gate and up packed as one by pack_gate_up. 4 T F H FLOPs.
  void linear_silu_mul(TensorView out, TensorView x, const WeightView& gate_up);
  /// out[T, F] = silu(gate) * up.
  void silu_mul(TensorView out, TensorView gate, TensorView up);
  /// qkv[T, (Hq + 2 Hkv) d]: adds the bias, norms q and k, rotates both by their positions, as far as
  /// `transform` asks (q in place; k's and v's columns are scratch from then on), then writes k and v to the
  /// cache at the batch's slots, rounded to its type.
  void rope_and_store_kv(TensorView qkv, int num_q_heads, const QkvTransform& transform,
                         const KvLayerView& kv);
  /// out[T, Hq d]: causal attention of qkv's q heads over the cache, scores scaled by `scale`; query head h
  /// reads KV head h / (Hq / Hkv). K and V of this step's tokens are already in the cache. With `window` > 0
  /// a query sees the last `window` keys, its own included. A block that lies before every query's window may
  /// be the trash block, whose contents may be anything: it is not read. 4 Hq d FLOPs per pair that is seen.
  void paged_attention(TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv, float scale,
                       int window = 0);
  /// out[R, H] = x[logit_rows].
  void gather_rows(TensorView out, TensorView x);
  /// Copies whole blocks within each of `layers`, in order, before the step's first write.
  void copy_kv_blocks(std::span<const KvLayerView> layers, std::span<const BlockCopy> copies);
  /// Sums x over the devices that share the work. One device: does nothing.
  void all_reduce(TensorView x);

 protected:
  Ops() = default;
  const BatchView& batch() const { return batch_; }

 private:
  /// A device uploads the batch here, and here waits for the step's work and returns its time: operations
  /// that return before they have run are not timed one by one.
  virtual void do_begin_step() {}
  virtual std::optional<std::int64_t> do_end_step() { return std::nullopt; }
  virtual void do_embed(TensorView out, const WeightView& table, float scale) = 0;
  virtual void do_copy(TensorView out, TensorView x) = 0;
  virtual void do_rms_norm(TensorView out, TensorView x, const float* weight, float eps) = 0;
  virtual void do_add_rms_norm(TensorView out, TensorView residual, TensorView delta, const float* weight,
                               float eps) = 0;
  virtual void do_rms_norm_add(TensorView out, TensorView residual, TensorView delta, const float* weight,
                               float eps) = 0;
  virtual void do_linear(TensorView out, TensorView x, const WeightView& weight) = 0;
  virtual void do_linear_silu_mul(TensorView out, TensorView x, const WeightView& gate_up) = 0;
  virtual void do_silu_mul(TensorView out, TensorView gate, TensorView up) = 0;
  virtual void do_rope_and_store_kv(TensorView qkv, int num_q_heads, const QkvTransform& transform,
                                    const KvLayerView& kv) = 0;
  virtual void do_paged_attention(TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv,
                                  float scale, int window) = 0;
  virtual void do_gather_rows(TensorView out, TensorView x) = 0;
  virtual void do_copy_kv_blocks(std::span<const KvLayerView> layers, std::span<const BlockCopy> copies) = 0;
  virtual void do_all_reduce(TensorView) {}

  template <class Body>
  void launch(const OpCost& cost, std::int64_t rows, Body&& body) {
    ledger_.charge(cost, rows);
    if (uses_host_memory()) ledger_.op_begins();
    body();
    if (uses_host_memory()) ledger_.op_done(cost.kind);
  }

  Ledger ledger_;
  BatchView batch_;
  const std::byte* embedding_table_ = nullptr;  // gathered from in this step: a tied head reads it whole
};

/// Double precision, a dozen lines an operation: the oracle of every test. Keeps weights unpacked.
std::unique_ptr<Ops> make_reference_ops();

/// The CPU backend. `threads` 0: one per core that this process may use. Picks the fastest instruction set of
/// the machine (cpu/cpu_isa.cpp) unless `isa` or REDLINE_ISA names one. Throws std::invalid_argument, naming
/// what was asked and what the machine has.
struct CpuOptions {
  int threads = 0;
  std::string isa;
};
std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options = {});

}  // namespace redline
