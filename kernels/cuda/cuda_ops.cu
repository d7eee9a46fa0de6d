#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "kernels/check.h"
#include "kernels/convert.h"
#include "kernels/cuda/few_rows.h"
#include "kernels/cuda/residual.cuh"
#include "kernels/cuda/rms_norm.cuh"
#include "kernels/cuda/rope.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/silu_mul.cuh"
#include "kernels/cuda/unpack_rows.cuh"

namespace redline::cuda {
namespace {

// Decode steps of more rows run eagerly: their kernels are long beside a launch.
constexpr std::int64_t kMaxCapturedRows = 512;

// What kernels are given points to: elements of a view, as the kernel's type.
template <class T>
T* elements(const TensorView& view) {
  return static_cast<T*>(view.data);
}

KvView kv_view(const KvLayerView& kv) {
  REDLINE_CHECK(kv.tiles == KvTiles::kRowMajor, "a cache laid out for this backend (make_cache)");
  return {kv.data, static_cast<int>(kv.num_blocks), kv.block_size, kv.num_kv_heads, kv.head_dim};
}

// On Hopper, where the environment asks for a kernel that no measurement has chosen yet.
bool wants(const char* variable, const char* kernel, const dev::DeviceProperties& device) {
  const char* wish = std::getenv(variable);
  return wish != nullptr && std::string(wish) == kernel && device.compute_major == 9 &&
         device.compute_minor == 0;
}

dev::DeviceProperties properties_of(int device) {
  const int count = dev::num_devices();
  if (device < 0 || device >= count)
    throw std::runtime_error("there is no CUDA device " + std::to_string(device) + ": the driver shows " +
                             std::to_string(count));
  dev::use_device(device);
  const dev::DeviceProperties properties = dev::device_properties();
  if (properties.compute_major < 8)
    throw std::runtime_error("CUDA device " + std::to_string(device) + ", " + properties.name +
                             ", has compute capability " + std::to_string(properties.compute_major) + "." +
                             std::to_string(properties.compute_minor) + "; 8.0 is needed at least");
  return properties;
}

}  // namespace

CudaOps::CudaOps(const CudaOptions& options)
    : options_(options),
      properties_(properties_of(options.device)),
      skinny_wgmma_(wants("REDLINE_CUDA_SKINNY", "wgmma", properties_)),
      gemv_ring_(wants("REDLINE_CUDA_GEMV", "ring", properties_) ||
                 wants("REDLINE_CUDA_GEMV", "ring-norm", properties_)),
      folds_norms_(wants("REDLINE_CUDA_GEMV", "ring-norm", properties_)),
      pool_(default_num_threads()),
      weight_upload_(pool_, stream_) {
  if (options.activation_dtype != DType::kBF16 && options.activation_dtype != DType::kF32)
    throw std::invalid_argument(std::string("activations are bf16 or f32 on a GPU, not ") +
                                redline::name(options.activation_dtype));
  const SplitWorkspaceSize needed = few_rows_workspace(properties_.num_sms);
  const auto sum_bytes = static_cast<std::size_t>(needed.num_sums) * sizeof(float);
  split_memory_ = allocate(sum_bytes + static_cast<std::size_t>(needed.num_blocks) * sizeof(unsigned));
  split_.sums = reinterpret_cast<float*>(split_memory_.data());
  split_.arrived = reinterpret_cast<unsigned*>(split_memory_.data() + sum_bytes);
}

ComputeType CudaOps::compute_type(OpKind kind, DType weight) const {
  if (kind == OpKind::kPagedAttention)
    return weight == DType::kBF16 && options_.activation_dtype == DType::kBF16 ? ComputeType::kBF16
                                                                               : ComputeType::kF32;
  const bool is_product = kind == OpKind::kLinear || kind == OpKind::kLinearSiluMul;
  return is_product && options_.activation_dtype == DType::kBF16 ? ComputeType::kBF16 : ComputeType::kF32;
}

// --- memory ---

Buffer CudaOps::allocate(std::size_t bytes) {
  Buffer buffer = allocate_device(bytes, "buffer");
  if (bytes > 0) dev::fill_async(buffer.data(), 0, bytes, stream_.get());
  return buffer;
}

std::optional<std::int64_t> CudaOps::free_device_bytes() const {
  return static_cast<std::int64_t>(dev::device_memory().free_bytes);
}

void CudaOps::upload(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  dev::copy_to_device_async(to, from, bytes, stream_.get());
  stream_.synchronize();
}

void CudaOps::download(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  dev::copy_to_host_async(to, from, bytes, stream_.get());
  stream_.synchronize();
}

// --- weights ---

std::int64_t CudaOps::packed_bytes(DType dtype, std::int64_t rows, std::int64_t cols) const {
  return weight_layout(stored_dtype(dtype, options_.activation_dtype), rows, cols).num_bytes;
}

PackedMatrix CudaOps::pack(const MatrixSource& source) {
  PackedMatrix packed;
  WeightView& view = packed.view;
  view.dtype = stored_dtype(source.dtype, options_.activation_dtype);
  view.rows = source.rows;
  view.cols = source.cols;
  view.panel_rows = 1;
  view.type_bytes =
      source.rows * std::min(row_bytes(source.dtype, source.cols), row_bytes(view.dtype, source.cols));
  view.stored_bytes = weight_layout(view.dtype, source.rows, source.cols).num_bytes;
  packed.storage = allocate_device(static_cast<std::size_t>(view.stored_bytes), "weights");
  view.data = packed.storage.data();
  weight_upload_.store(source, view);
  return packed;
}

// Gate's rows, then up's.
PackedMatrix CudaOps::pack_gate_up(const MatrixSource& gate, const MatrixSource& up) {
  REDLINE_CHECK(gate.dtype == up.dtype && gate.rows == up.rows && gate.cols == up.cols,
                "gate and up of one type and shape");
  MatrixSource both = gate;
  both.rows = 2 * gate.rows;
  both.row = [&](std::int64_t row) { return row < gate.rows ? gate.row(row) : up.row(row - gate.rows); };
  PackedMatrix packed = pack(both);
  packed.view.gate_up = true;
  return packed;
}

void CudaOps::unpack_row(const WeightView& weight, std::int64_t row, float* out) const {
  REDLINE_CHECK(row >= 0 && row < weight.rows, "a row of the matrix");
  const WeightLayout layout = weight_layout(weight.dtype, weight.rows, weight.cols);
  const auto bytes = array_row_bytes(weight.dtype, weight.cols);
  std::vector<std::byte> arrays(static_cast<std::size_t>(row_bytes(weight.dtype, weight.cols)));
  PerWeightArray<const std::byte*> parts{};
  std::byte* next = arrays.data();
  for (std::size_t a = 0; a < bytes.size(); next += bytes[a++]) {
    if (bytes[a] == 0) continue;
    dev::copy_to_host(next, weight.data + layout.offsets[a] + row * bytes[a],
                      static_cast<std::size_t>(bytes[a]));
    parts[a] = next;
  }
  std::vector<std::byte> blocks = arrays;
  if (is_quantized(weight.dtype)) join_row(weight.dtype, parts, weight.cols, blocks.data());
  dequantize_row(weight.dtype, blocks.data(), weight.cols, out);
}

// --- a step ---

void CudaOps::reserve(Buffer& buffer, std::size_t bytes, const char* name) {
  if (buffer.size() >= bytes) return;
  REDLINE_CHECK(mode_ == Mode::kEager, "a captured step has all its memory");
  buffer = allocate_device(bytes, name);
  num_reallocations_ += 1;
}

std::int64_t CudaOps::padded_rows(std::int64_t rows) const {
  if (!options_.graphs || rows > kMaxCapturedRows) return rows;
  return rows <= 8 ? static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(rows)))
                   : (rows + 7) / 8 * 8;
}

void CudaOps::do_begin_step() {
  dev::use_device(options_.device);  // the thread that steps need not be the one that loaded
  const std::int64_t tokens = batch().num_tokens();
  const bool is_decode = std::ssize(batch().sequences) == tokens && batch().num_logit_rows() == tokens;
  step_ = nullptr;
  mode_ = Mode::kEager;
  num_padding_rows_ = 0;
  if (is_decode && options_.graphs && tokens > 0 && tokens <= kMaxCapturedRows) {
    num_padding_rows_ = padded_rows(tokens) - tokens;
    step_ = &captured_steps_[tokens + num_padding_rows_];
  }
  step_start_.record(stream_);
  if (arrays_.upload(batch(), num_padding_rows_, stream_)) num_reallocations_ += 1;
  for (auto& [window, attention] : attention_) attention.is_planned = false;
  held_norm_.reset();
  fingerprint_ = 0;
  is_started_ = false;
  if (step_ != nullptr && step_->has_run)
    mode_ = step_->graph && step_->memory == num_reallocations_ ? Mode::kReplay : Mode::kCapture;
}

void CudaOps::start_step() {
  if (is_started_) return;
  launch_held_norm();
  if (mode_ == Mode::kCapture) {
    step_->graph = Graph(dev::end_capture(stream_.get()));
    step_->fingerprint = fingerprint_;
    step_->memory = num_reallocations_;
  }
  REDLINE_CHECK(mode_ != Mode::kReplay || fingerprint_ == step_->fingerprint,
                "a step of a captured size finds its arrays where they were");
  if (mode_ != Mode::kEager) step_->graph.launch(stream_);
  if (step_ != nullptr) step_->has_run = true;
  is_started_ = true;
}

void CudaOps::choose(TensorView logits, const std::vector<ChoiceRequest>& requests) {
  token_choice_.launch(logits, requests, stream_);
}

std::vector<ChosenToken> CudaOps::chosen() {
  stream_.synchronize();
  return token_choice_.results();
}

std::optional<std::int64_t> CudaOps::do_end_step() {
  start_step();
  step_end_.record(stream_);
  step_end_.synchronize();
  return step_end_.elapsed_ns_since(step_start_);
}

bool CudaOps::is_replayed(std::initializer_list<const void*> addresses, const void* x) {
  if (held_norm_ && held_norm_->out.data != x) launch_held_norm();
  for (const void* address : addresses) {
    fingerprint_ ^= reinterpret_cast<std::uintptr_t>(address);
    fingerprint_ *= 0x9e3779b97f4a7c15u;
    fingerprint_ ^= fingerprint_ >> 29;
  }
  return mode_ == Mode::kReplay;
}

// The first operation of every forward pass: what comes before it in a step (copies of cache blocks) differs
// from step to step and is never captured.
void CudaOps::do_embed(TensorView out, const WeightView& table, float scale) {
  if (is_replayed({out.data, table.data})) return;
  if (mode_ == Mode::kCapture) dev::begin_capture(stream_.get());
  cuda::embed(out.f32(), weight_arrays(table), arrays_.batch().token_ids, static_cast<int>(rows(out)),
              stream_.get());
  if (scale != 1) cuda::scale(out.f32(), rows(out) * out.cols, scale, stream_.get());
}

void CudaOps::do_copy(TensorView out, TensorView x) {
  if (is_replayed({out.data, x.data})) return;
  with_activation([&]<class A>(A*) {
    cuda::convert(elements<A>(out), static_cast<const float*>(x.f32()), rows(x) * x.cols, stream_.get());
  });
}

void CudaOps::do_rms_norm_add(TensorView out, TensorView residual, TensorView delta, const float* weight,
                              float eps) {
  if (is_replayed({out.data, residual.data, delta.data, weight})) return;
  with_activation([&]<class A>(A*) {
    cuda::rms_norm_add(RmsNormAddArgs<A>{.out = elements<A>(out),
                                         .residual = residual.f32(),
                                         .delta = elements<const A>(delta),
                                         .weight = weight,
                                         .rows = static_cast<int>(rows(out)),
                                         .cols = static_cast<int>(out.cols),
                                         .eps = eps},
                       stream_.get());
  });
}

void CudaOps::do_rms_norm(TensorView out, TensorView x, const float* weight, float eps) {
  if (is_replayed({out.data, x.data, weight})) return;
  with_activation([&]<class A>(A*) {
    cuda::rms_norm(elements<A>(out), x.f32(), weight, static_cast<int>(rows(x)), static_cast<int>(x.cols),
                   eps, stream_.get());
  });
}

void CudaOps::do_add_rms_norm(TensorView out, TensorView residual, TensorView delta, const float* weight,
                              float eps) {
  if (is_replayed({out.data, residual.data, delta.data, weight})) return;
  const HeldNorm norm{out, residual, delta, weight, eps};
  if (folds_norms_)
    held_norm_ = norm;
  else
    launch_norm(norm);
}

void CudaOps::launch_norm(const HeldNorm& norm) {
  with_activation([&]<class A>(A*) {
    cuda::add_rms_norm(elements<A>(norm.out), norm.residual.f32(), elements<const A>(norm.delta), norm.weight,
                       static_cast<int>(rows(norm.out)), static_cast<int>(norm.out.cols), norm.eps,
                       stream_.get());
  });
}

void CudaOps::launch_held_norm() {
  if (held_norm_) launch_norm(*held_norm_);
  held_norm_.reset();
}

void CudaOps::do_linear(TensorView out, TensorView x, const WeightView& weight) {
  if (is_replayed({out.data, x.data, weight.data}, x.data)) return;
  if (x.rows == 0 || weight.rows == 0) return;
  if (are_few(x, weight)) return multiply_few(out, x, weight);
  with_activation([&]<class A>(A*) { multiply_many<A>(out, x, weight); });
}

void CudaOps::do_linear_silu_mul(TensorView out, TensorView x, const WeightView& gate_up) {
  if (is_replayed({out.data, x.data, gate_up.data}, x.data)) return;
  if (x.rows == 0 || gate_up.rows == 0) return;
  if (are_few(x, gate_up)) return multiply_few(out, x, gate_up);
  with_activation([&]<class A>(A*) {
    reserve(product_, static_cast<std::size_t>(rows(x) * row_bytes(x.dtype, gate_up.rows)), "gate and up");
    const TensorView both{product_.data(), x.dtype, x.rows, gate_up.rows, gate_up.rows};
    multiply_many<A>(both, x, gate_up);
    launch_silu_mul<A>(out, both.slice_cols(0, out.cols), both.slice_cols(out.cols, out.cols));
  });
}

bool CudaOps::are_few(const TensorView& x, const WeightView& weight) const {
  return rows(x) <= most_few_rows(x.dtype, weight.dtype, skinny_wgmma_);
}

// In one pass over the weights, dequantised as they come.
void CudaOps::multiply_few(TensorView out, TensorView x, const WeightView& weight) {
  FewRowsArgs args{.weight = weight_arrays(weight),
                   .type = x.dtype,
                   .out_type = out.dtype,
                   .x = x.data,
                   .out = out.data,
                   .x_stride = x.row_stride,
                   .out_stride = out.row_stride,
                   .num_tokens = static_cast<int>(rows(x)),
                   .silu_mul = weight.gate_up,
                   .wgmma = skinny_wgmma_,
                   .ring = gemv_ring_,
                   .workspace = split_,
                   .num_sms = properties_.num_sms};
  if (held_norm_ && x.dtype == DType::kBF16 && x.cols == held_norm_->out.cols) {
    const NormPrologue norm{elements<bf16>(held_norm_->out), held_norm_->residual.f32(),
                            elements<const bf16>(held_norm_->delta), held_norm_->weight, held_norm_->eps};
    args.norm = &norm;
    if (multiply_by_ring(args, stream_.get())) return held_norm_.reset();
    args.norm = nullptr;
  }
  launch_held_norm();
  multiply_few_rows(args, stream_.get());
}

// On the tensor cores; quantised weights are unpacked first, whole.
template <class A>
void CudaOps::multiply_many(TensorView out, TensorView x, const WeightView& weight) {
  launch_held_norm();
  const void* matrix = weight.data;
  if (is_quantized(weight.dtype)) {
    reserve(unpacked_, static_cast<std::size_t>(weight.rows * weight.cols) * sizeof(A), "unpacked weights");
    auto* const to = reinterpret_cast<A*>(unpacked_.data());
    dequantize(to, weight_arrays(weight), 0, weight.rows, stream_.get());
    matrix = to;
  }
  gemm_.run({.out = out.data,
             .x = x.data,
             .weight = matrix,
             .type = x.dtype,
             .out_type = out.dtype,
             .m = rows(x),
             .n = weight.rows,
             .k = weight.cols,
             .out_stride = out.row_stride,
             .x_stride = x.row_stride},
            stream_);
}

template <class A>
void CudaOps::launch_silu_mul(TensorView out, TensorView gate, TensorView up) {
  cuda::silu_mul(SiluMulArgs<A>{.out = elements<A>(out),
                                .gate = elements<const A>(gate),
                                .up = elements<const A>(up),
                                .out_stride = out.row_stride,
                                .gate_stride = gate.row_stride,
                                .up_stride = up.row_stride,
                                .rows = rows(out),
                                .cols = out.cols},
                 stream_.get());
}

void CudaOps::do_silu_mul(TensorView out, TensorView gate, TensorView up) {
  if (is_replayed({out.data, gate.data, up.data})) return;
  with_activation([&]<class A>(A*) { launch_silu_mul<A>(out, gate, up); });
}

void CudaOps::do_rope_and_store_kv(TensorView qkv, int num_q_heads, const QkvTransform& transform,
                                   const KvLayerView& kv) {
  const RopeView& rope = transform.rope;
  if (is_replayed(
          {qkv.data, rope.cos, rope.sin, transform.bias, transform.q_norm, transform.k_norm, kv.data}))
    return;
  with_activation([&]<class A>(A*) {
    const RopeArgs<A> args{.qkv = elements<A>(qkv),
                           .qkv_stride = qkv.row_stride,
                           .positions = arrays_.batch().positions,
                           .slots = arrays_.batch().slots,
                           .num_tokens = static_cast<int>(rows(qkv)),
                           .num_q_heads = num_q_heads,
                           .cos = rope.cos,
                           .sin = rope.sin,
                           .rotary_dim = rope.rotary_dim,
                           .bias = transform.bias,
                           .q_norm = transform.q_norm,
                           .k_norm = transform.k_norm,
                           .norm_joins_heads = transform.norm_joins_heads,
                           .norm_eps = transform.norm_eps,
                           .kv = kv_view(kv)};
    if (kv.dtype == DType::kBF16)
      cuda::rope_and_store_kv<dev::bf16>(args, stream_.get());
    else
      cuda::rope_and_store_kv<float>(args, stream_.get());
  });
}

// All layers of a step that have one window share one division of its work.
AttentionArgs& CudaOps::planned_attention(int num_q_heads, const KvLayerView& kv, int window) {
  StepAttention& attention = attention_[window];
  AttentionArgs& args = attention.args;
  if (attention.is_planned) return args;
  args = AttentionArgs{};
  if (window > 0) args.window = std::min(window, kNoWindow);
  AttentionShape& shape = args.shape;
  shape.num_q_heads = num_q_heads;
  shape.num_kv_heads = kv.num_kv_heads;
  shape.head_dim = kv.head_dim;
  shape.activation_type = options_.activation_dtype;
  shape.cache_type = kv.dtype;
  shape.num_sms = properties_.num_sms;
  shape.rung = highest_attention_rung(shape, kv.block_size,
                                      10 * properties_.compute_major + properties_.compute_minor);
  args.batch = arrays_.batch();
  args.kv = kv_view(kv);
  args.counts = count_attention_work(batch().sequences, shape);
  args.counts.num_split_rows += static_cast<int>(num_padding_rows_);
  const int tokens = args.batch.num_tokens, sequences = args.batch.num_sequences;
  reserve(attention.workspace, attention_workspace_bytes(shape, tokens, sequences), "attention");
  args.plan = attention_plan(attention.workspace.data(), shape, tokens, sequences);
  plan_paged_attention(args, stream_.get());
  attention.is_planned = true;
  return args;
}

void CudaOps::do_paged_attention(TensorView out, TensorView qkv, int num_q_heads, const KvLayerView& kv,
                                 float scale, int window) {
  if (is_replayed({out.data, qkv.data, kv.data})) return;
  AttentionArgs& args = planned_attention(num_q_heads, kv, window);
  args.kv = kv_view(kv);
  args.q = static_cast<const std::byte*>(qkv.data);
  args.q_stride = qkv.row_stride;
  args.out = static_cast<std::byte*>(out.data);
  args.out_stride = out.row_stride;
  args.scale = scale;
  run_paged_attention(args, stream_.get());
}

void CudaOps::do_gather_rows(TensorView out, TensorView x) {
  if (is_replayed({out.data, x.data})) return;
  with_activation([&]<class A>(A*) {
    cuda::gather_rows(elements<A>(out), elements<const A>(x), x.row_stride, arrays_.batch().logit_rows,
                      static_cast<int>(rows(out)), static_cast<int>(x.cols), stream_.get());
  });
}

void CudaOps::do_copy_kv_blocks(std::span<const KvLayerView> layers, std::span<const BlockCopy> copies) {
  std::vector<std::byte*> data;
  for (const KvLayerView& layer : layers) data.push_back(layer.data);
  const BlockCopy* const on_device = arrays_.upload(copies, stream_);
  cuda::copy_kv_blocks(data, on_device, static_cast<int>(copies.size()), layers.front().block_bytes(),
                       stream_.get());
}

}  // namespace redline::cuda

namespace redline {

std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options) {
  return std::make_unique<cuda::CudaOps>(options);
}

int num_cuda_devices() { return cuda::dev::num_devices(); }

}  // namespace redline
