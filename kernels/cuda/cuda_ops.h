// The CUDA backend: which kernel runs an operation, in which memory.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/ceilings.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/device_batch.h"
#include "kernels/cuda/few_rows.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/step_arrays.h"
#include "kernels/cuda/token_choice.h"
#include "kernels/cuda/weight_upload.h"
#include "kernels/cuda_ops.h"

namespace redline::cuda {

class CudaOps final : public Ops, public TokenSampling {
 public:
  explicit CudaOps(const CudaOptions& options);

  std::string name() const override { return "cuda " + properties_.name; }
  int num_threads() const override { return pool_.num_threads(); }
  ComputeType compute_type(OpKind kind, DType weight) const override;
  std::optional<Peaks> measure_peaks() override {
    return measure_ceilings(gemm_, stream_, properties_.num_sms);
  }

  bool uses_host_memory() const override { return false; }
  Buffer allocate(std::size_t bytes) override;
  std::optional<std::int64_t> free_device_bytes() const override;
  void upload(void* to, const void* from, std::size_t bytes) override;
  void download(void* to, const void* from, std::size_t bytes) override;
  DType activation_dtype() const override { return options_.activation_dtype; }
  std::int64_t padded_rows(std::int64_t rows) const override;
  KvTiles kv_tiles() const override { return KvTiles::kRowMajor; }

  std::int64_t packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols) const override;
  PackedMatrix pack(const MatrixSource& source) override;
  PackedMatrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up) override;
  void unpack_row(const WeightView& weight, std::int64_t row, float* out) const override;

  void start_step() override;
  void choose(TensorView logits, const std::vector<ChoiceRequest>& requests) override;
  std::vector<ChosenToken> chosen() override;

 private:
  void do_begin_step() override;
  std::optional<std::int64_t> do_end_step() override;
  void do_embed(TensorView out, const WeightView& table, float scale) override;
  void do_copy(TensorView out, TensorView x) override;
  void do_rms_norm(TensorView out, TensorView x, const float* weight, float eps) override;
  void do_add_rms_norm(TensorView out, TensorView residual, TensorView delta, const float* weight,
                       float eps) override;
  void do_rms_norm_add(TensorView out, TensorView residual, TensorView delta, const float* weight,
                       float eps) override;
  void do_linear(TensorView out, TensorView x, const WeightView& weight) override;
  void do_linear_silu_mul(TensorView out, TensorView x, const WeightView& gate_up) override;
  void do_silu_mul(TensorView out, TensorView gate, TensorView up) override;
  void do_rope_and_store_kv(TensorView qkv, int num_q_heads, const QkvTransform& transform,
                            const KvLayerView& kv) override;
  void do_paged_attention(TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv, float scale,
                          int window) override;
  void do_gather_rows(TensorView out, TensorView x) override;
  void do_copy_kv_blocks(std::span<const KvLayerView> layers, std::span<const BlockCopy> copies) override;

  /// Calls body with a null pointer to the activations' type.
  template <class Body>
  void with_activation(Body&& body) const {
    if (options_.activation_dtype == DType::kBF16)
      body(static_cast<dev::bf16*>(nullptr));
    else
      body(static_cast<float*>(nullptr));
  }
  /// How the step under way is executed. A decode step's first run of a size is eager, so that all memory is
  /// there and all products have their algorithms; its second is captured and launched; from then on its
  /// operations are accounted for and compared, and the graph is launched at the step's end.
  enum class Mode { kEager, kCapture, kReplay };
  struct CapturedStep {
    Graph graph;
    std::uint64_t fingerprint = 0;  // of the operations' addresses
    std::int64_t memory = 0;        // num_reallocations_ when captured
    bool has_run = false;
  };
  /// The attention of the layers that share a window.
  struct StepAttention {
    AttentionArgs args;
    bool is_planned = false;  // in this step
    Buffer workspace;
  };
  /// Whether a replay stands for an operation on these addresses.
  /// Launches the norm that waits for a product, unless it is one of `x`.
  bool is_replayed(std::initializer_list<const void*> addresses, const void* x = nullptr);
  std::int64_t rows(const TensorView& view) const { return view.rows + num_padding_rows_; }
  /// Makes `buffer` hold `bytes` at least.
  void reserve(Buffer& buffer, std::size_t bytes, const char* name);

  /// An add_rms_norm that is held back: where the next operation multiplies its `out`, one kernel does both.
  struct HeldNorm {
    TensorView out, residual, delta;
    const float* weight;
    float eps;
  };
  void launch_norm(const HeldNorm& norm);
  void launch_held_norm();

  bool are_few(const TensorView& x, const WeightView& weight) const;
  void multiply_few(TensorView out, TensorView x, const WeightView& weight);
  template <class A>
  void multiply_many(TensorView out, TensorView x, const WeightView& weight);
  template <class A>
  void launch_silu_mul(TensorView out, TensorView gate, TensorView up);
  AttentionArgs& planned_attention(int num_q_heads, const KvLayerView& kv, int window);

  CudaOptions options_;
  dev::DeviceProperties properties_;
  bool skinny_wgmma_, gemv_ring_, folds_norms_;
  Stream stream_;
  Event step_start_, step_end_;
  ThreadPool pool_;
  WeightUpload weight_upload_;
  Gemm gemm_;
  StepArrays arrays_;
  Mode mode_ = Mode::kEager;
  std::map<std::int64_t, CapturedStep> captured_steps_;  // by padded rows
  CapturedStep* step_ = nullptr;                         // of these, the one under way
  std::uint64_t fingerprint_ = 0;
  std::int64_t num_padding_rows_ = 0;
  std::int64_t num_reallocations_ = 0;
  std::optional<HeldNorm> held_norm_;
  bool is_started_ = false;  // all of the step's operations are in the stream
  TokenChoice token_choice_;
  SplitWorkspace split_;
  Buffer split_memory_;
  Buffer unpacked_;                         // a quantised matrix, for one product
  Buffer product_;                          // gate and up, before they meet
  std::map<int, StepAttention> attention_;  // by window
};

}  // namespace redline::cuda
