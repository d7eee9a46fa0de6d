// The CPU backend: shares each operation out over a thread pool and calls the kernels of one instruction set.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/paged_attention.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace redline {

class CpuOps final : public Ops {
 public:
  CpuOps(const cpu::KernelTable& kernels, int num_threads);

  std::string name() const override;
  int num_threads() const override { return pool_.num_threads(); }
  ComputeType compute_type(OpKind kind, DType weight) const override;

  std::int64_t packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols) const override;
  PackedMatrix pack(const MatrixSource& source) override;
  PackedMatrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up) override;
  void unpack_row(const WeightView& weight, std::int64_t row, float* out) const override;

 private:
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

  const cpu::MatrixKernel& matrix(DType dtype) const { return *kernels_.matrix[static_cast<int>(dtype)]; }
  PackedMatrix pack_panels(const MatrixSource& first, const MatrixSource* second);
  void multiply(TensorView out, TensorView x, const WeightView& weight);
  template <class Body>
  void for_each_row(std::int64_t rows, std::int64_t elements_per_row, Body&& body);
  /// At least `bytes` of scratch that only `thread` uses, until its next call.
  std::byte* scratch(int thread, std::int64_t bytes);

  const cpu::KernelTable& kernels_;
  mutable ThreadPool pool_;
  cpu::PagedAttention attention_;
  Buffer activations_;           // prepared rows that all threads read
  std::vector<Buffer> scratch_;  // by thread
};

}  // namespace redline
