// The operations of CpuOps that work row by row: embedding, norms, activation, gather.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_ops.h"

namespace redline {

void CpuOps::do_embed(TensorView out, const WeightView& table) {
  pool_.run(out.rows, [&](std::int64_t row, int) {
    unpack_row(table, batch().token_ids[static_cast<std::size_t>(row)], out.f32(row));
  });
}

void CpuOps::do_rms_norm(TensorView out, TensorView x, const float* weight, float eps) {
  for (std::int64_t row = 0; row < x.rows; ++row) {
    const float* in = x.f32(row);
    float* to = out.f32(row);
    float sum = 0;
    for (std::int64_t i = 0; i < x.cols; ++i) sum += in[i] * in[i];
    const float scale = 1 / std::sqrt(sum / static_cast<float>(x.cols) + eps);
    for (std::int64_t i = 0; i < x.cols; ++i) to[i] = in[i] * scale * weight[i];
  }
}

void CpuOps::do_add_rms_norm(TensorView out, TensorView residual, TensorView delta, const float* weight,
                             float eps) {
  for (std::int64_t row = 0; row < out.rows; ++row)
    for (std::int64_t i = 0; i < out.cols; ++i) residual.f32(row)[i] += delta.f32(row)[i];
  do_rms_norm(out, residual, weight, eps);
}

void CpuOps::do_silu_mul(TensorView out, TensorView gate, TensorView up) {
  pool_.run(out.rows, [&](std::int64_t row, int) {
    for (std::int64_t i = 0; i < out.cols; ++i) {
      const float g = gate.f32(row)[i];
      out.f32(row)[i] = g / (1 + std::exp(-g)) * up.f32(row)[i];
    }
  });
}

void CpuOps::do_gather_rows(TensorView out, TensorView x) {
  for (std::int64_t row = 0; row < out.rows; ++row)
    std::memcpy(out.f32(row), x.f32(batch().logit_rows[static_cast<std::size_t>(row)]),
                static_cast<std::size_t>(x.cols) * sizeof(float));
}

}  // namespace redline
