#include "kernels/cpu/cpu_ops.h"

#include <algorithm>

#include "kernels/check.h"

namespace redline {
namespace {

// Enough chunks a thread that a core taken by another process costs a fraction of an operation.
constexpr std::int64_t kChunksPerThread = 8;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

CpuOps::CpuOps(const cpu::KernelTable& kernels, int num_threads)
    : kernels_(kernels),
      pool_(num_threads),
      attention_(*kernels.attention, pool_),
      scratch_(static_cast<std::size_t>(num_threads)) {}

std::string CpuOps::name() const { return std::string("cpu ") + kernels_.isa; }

ComputeType CpuOps::compute_type(OpKind kind, DType weight) const {
  return kind == OpKind::kLinear || kind == OpKind::kLinearSiluMul ? matrix(weight).compute
                                                                   : ComputeType::kF32;
}

std::byte* CpuOps::scratch(int thread, std::int64_t bytes) {
  Buffer& buffer = scratch_[static_cast<std::size_t>(thread)];
  if (buffer.size() < static_cast<std::size_t>(bytes)) buffer = Buffer(static_cast<std::size_t>(bytes));
  return buffer.data();
}

std::int64_t CpuOps::packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols) const {
  const cpu::PanelFormat& format = matrix(dtype).panel;
  return ceil_div(rows, format.rows) * cpu::panel_bytes(format, cols);
}

PackedMatrix CpuOps::pack(const MatrixSource& source) { return pack_panels(source, nullptr); }

PackedMatrix CpuOps::pack_gate_up(const MatrixSource& gate, const MatrixSource& up) {
  REDLINE_CHECK(gate.dtype == up.dtype && gate.rows == up.rows && gate.cols == up.cols,
                "gate and up of one type and shape");
  return pack_panels(gate, &up);
}

// With `second`, the first half of each panel's rows come from `first` and the rest from `second`.
PackedMatrix CpuOps::pack_panels(const MatrixSource& first, const MatrixSource* second) {
  REDLINE_CHECK(first.cols % traits(first.dtype).block_elements == 0, "whole blocks in a row");
  const cpu::PanelFormat& format = matrix(first.dtype).panel;
  const std::int64_t per_source = second ? format.rows / 2 : format.rows;
  const std::int64_t panels = ceil_div(first.rows, per_source);
  const std::int64_t panel_bytes = cpu::panel_bytes(format, first.cols);
  REDLINE_CHECK(format.rows <= cpu::kMaxPanelRows, "panels of at most 32 rows");

  PackedMatrix packed;
  packed.storage = Buffer(static_cast<std::size_t>(panels * panel_bytes));
  WeightView& view = packed.view;
  view.data = packed.storage.data();
  view.dtype = first.dtype;
  view.rows = first.rows * (second ? 2 : 1);
  view.cols = first.cols;
  view.panel_rows = format.rows;
  view.type_bytes = view.rows * row_bytes(first.dtype, first.cols);
  view.stored_bytes = panels * panel_bytes;
  view.gate_up = second != nullptr;
  pool_.run(panels, [&](std::int64_t panel, int) {
    const std::byte* rows[cpu::kMaxPanelRows] = {};
    for (std::int64_t i = 0; i < format.rows; ++i) {
      const MatrixSource& source = i < per_source ? first : *second;
      const std::int64_t row = panel * per_source + i % per_source;
      if (row < source.rows) rows[i] = source.row(row);
    }
    cpu::pack_panel(format, packed.storage.data() + panel * panel_bytes, rows, first.cols);
  });
  return packed;
}

void CpuOps::unpack_row(const WeightView& weight, std::int64_t row, float* out) const {
  REDLINE_CHECK(row >= 0 && row < weight.rows, "a row of the matrix");
  const cpu::PanelFormat& format = matrix(weight.dtype).panel;
  const std::int64_t per_source = weight.gate_up ? format.rows / 2 : format.rows;
  const std::int64_t source_rows = weight.gate_up ? weight.rows / 2 : weight.rows;
  const std::int64_t source_row = row % source_rows, panel = source_row / per_source;
  const auto in_panel = static_cast<int>(source_row % per_source + row / source_rows * per_source);
  cpu::unpack_panel_row(format, weight.data + panel * cpu::panel_bytes(format, weight.cols), in_panel,
                        weight.cols, out);
}

void CpuOps::do_linear(TensorView out, TensorView x, const WeightView& weight) { multiply(out, x, weight); }

void CpuOps::do_linear_silu_mul(TensorView out, TensorView x, const WeightView& gate_up) {
  multiply(out, x, gate_up);
}

void CpuOps::multiply(TensorView out, TensorView x, const WeightView& weight) {
  const std::int64_t m = x.rows, k = weight.cols;
  if (m == 0 || weight.rows == 0) return;
  const auto& kernel = matrix(weight.dtype);
  const std::int64_t panels = weight.stored_bytes / cpu::panel_bytes(kernel.panel, k);
  const std::int64_t activation_bytes = kernel.activation_bytes(m, k);
  cpu::LinearTask task{.weight = weight.data,
                       .n = weight.rows,
                       .k = k,
                       .m = m,
                       .out = out.f32(),
                       .out_stride = out.row_stride,
                       .gate_up = weight.gate_up};

  // A few rows: each thread prepares them for itself rather than waiting for the others.
  if (m <= kernel.max_tile_rows) {
    const std::int64_t chunks = std::min(panels, kChunksPerThread * pool_.num_threads());
    std::vector<std::uint8_t> prepared(static_cast<std::size_t>(pool_.num_threads()));
    for (int thread = 0; thread < pool_.num_threads(); ++thread) scratch(thread, activation_bytes);
    pool_.run(chunks, [&](std::int64_t chunk, int thread) {
      std::byte* activations = scratch_[static_cast<std::size_t>(thread)].data();
      if (auto& done = prepared[static_cast<std::size_t>(thread)]; !done) {
        kernel.prepare(activations, x.f32(), x.row_stride, m, k, 0, m);
        done = 1;
      }
      cpu::LinearTask own = task;
      own.activations = activations;
      kernel.multiply(own, panels * chunk / chunks, panels * (chunk + 1) / chunks, 0, m);
    });
    return;
  }

  if (activations_.size() < static_cast<std::size_t>(activation_bytes))
    activations_ = Buffer(static_cast<std::size_t>(activation_bytes));
  task.activations = activations_.data();
  const std::int64_t tile = cpu::tile_rows(m, kernel.max_tile_rows);
  pool_.run(ceil_div(m, tile), [&](std::int64_t chunk, int) {
    kernel.prepare(activations_.data(), x.f32(), x.row_stride, m, k, chunk * tile,
                   std::min(tile, m - chunk * tile));
  });
  const std::int64_t rows_per_task = kernel.max_task_rows / tile * tile,
                     row_tasks = ceil_div(m, rows_per_task);
  const std::int64_t columns = std::min(panels, kChunksPerThread * pool_.num_threads());
  pool_.run(columns * row_tasks, [&](std::int64_t chunk, int) {
    const std::int64_t column = chunk % columns, first_row = chunk / columns * rows_per_task;
    kernel.multiply(task, panels * column / columns, panels * (column + 1) / columns, first_row,
                    std::min(m, first_row + rows_per_task));
  });
}

}  // namespace redline
