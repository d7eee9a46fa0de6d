// product_bench: products of few tokens with stored weights, by each kernel that takes them, against memory's
// bandwidth; and what a step does between products. Prints a JSON line for each measurement.
//
//   nvcc -std=c++20 -O3 --expt-relaxed-constexpr -x cu -I . -gencode arch=compute_90a,code=sm_90a
//        tools/gpu_check/product_bench.cpp kernels/cuda/runtime_cuda.cpp kernels/check.cpp -cudart static
//        -o product_bench
//   product_bench [N K]     one matrix of N rows and K columns; without, those of an 8B and a 1B model
//
// A captured graph runs through as many copies of a matrix as exceed the L2 cache several times. Values are
// random: constant ones draw less power and run faster. Medians of windows of at least 20 ms.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda/gemm_packed.cuh"
#include "kernels/cuda/gemm_skinny.cuh"
#include "kernels/cuda/gemm_skinny_wgmma.cuh"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/gemv_ring.cuh"
#include "kernels/cuda/rms_norm.cuh"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sampling.cuh"
#include "kernels/cuda/weight_layout.h"

namespace redline::cuda {
namespace {

enum class Fill { kBF16, kF32, kF16Scales, kBits };

DEV_INLINE std::uint32_t hash(std::uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

template <Fill kFill>
__global__ void fill_kernel(std::uint32_t* words, std::int64_t count) {
  const std::int64_t i = grid_thread<256>();
  if (i >= count) return;
  const std::uint32_t x = hash(static_cast<std::uint32_t>(i) * 2654435761u + 1);
  const float low = static_cast<float>(x & 0xffff) / 32768.f - 1,
              high = static_cast<float>(x >> 16) / 32768.f - 1;
  if constexpr (kFill == Fill::kBF16)
    words[i] = pack_bf16x2(low, high);
  else if constexpr (kFill == Fill::kF32)  // within -8 and 8
    words[i] = __float_as_uint(8 * low + high / 65536);
  else if constexpr (kFill == Fill::kF16Scales)  // between 2^-7 and 2^-6
    words[i] = (x & 0x03ff03ffu) | 0x20002000u;
  else
    words[i] = x;
}

/// `bytes` of device memory, filled.
class Filled {
 public:
  Filled(Fill fill, std::int64_t bytes) : buffer_(static_cast<std::size_t>((bytes + 3) / 4)) {
    if (bytes == 0) return;
    const auto count = static_cast<std::int64_t>(buffer_.size());
    dev::launch(fill == Fill::kBF16        ? fill_kernel<Fill::kBF16>
                : fill == Fill::kF32       ? fill_kernel<Fill::kF32>
                : fill == Fill::kF16Scales ? fill_kernel<Fill::kF16Scales>
                                           : fill_kernel<Fill::kBits>,
                grid_for<256>(count), dim3(256), 0, nullptr, buffer_.get(), count);
  }
  std::byte* data() { return reinterpret_cast<std::byte*>(buffer_.get()); }

 private:
  dev::Buffer<std::uint32_t> buffer_;
};

/// Microseconds of one of `num_launches` launches of `launch(i, stream)`.
double median_us(int num_launches, const std::function<void(int, dev::stream_t)>& launch) {
  const dev::stream_t stream = dev::create_stream();
  dev::begin_capture(stream);
  for (int i = 0; i < num_launches; ++i) launch(i, stream);
  const dev::graph_t graph = dev::end_capture(stream);
  const dev::event_t begin = dev::create_event(true), end = dev::create_event(true);
  const auto window_ms = [&](int count) {
    dev::record(begin, stream);
    for (int i = 0; i < count; ++i) dev::launch_graph(graph, stream);
    dev::record(end, stream);
    dev::synchronize(end);
    return static_cast<double>(dev::elapsed_ms(begin, end)) / count;
  };
  window_ms(1);
  const int count = std::clamp(static_cast<int>(20 / std::max(window_ms(1), 1e-3)), 1, 1000);
  std::vector<double> windows;
  for (int i = 0; i < 5; ++i) windows.push_back(window_ms(count));
  std::sort(windows.begin(), windows.end());
  dev::destroy_event(begin);
  dev::destroy_event(end);
  dev::destroy_graph(graph);
  dev::destroy_stream(stream);
  return windows[2] * 1e3 / num_launches;
}

void report(const std::string& kernel, const std::string& what, double us, double bytes) {
  std::printf("{\"kernel\": \"%s\", \"case\": \"%s\", \"us\": %.2f, \"gb_per_s\": %.1f}\n", kernel.c_str(),
              what.c_str(), us, bytes / us * 1e-3);
  std::fflush(stdout);
}

class Products {
 public:
  explicit Products(int num_sms)
      : num_sms_(num_sms),
        sums_(static_cast<std::size_t>(packed_workspace_sums(num_sms))),
        arrived_(static_cast<std::size_t>(skinny_workspace_blocks(num_sms)), 0) {}

  template <Epilogue kEpilogue>
  void measure(DType dtype, std::int64_t rows, std::int64_t cols, const std::vector<int>& batches) {
    const auto row = array_row_bytes(dtype, cols);  // of k types all arrays' bits are random
    const bool is_k_type = row[1] > 0 || dtype == DType::kQ4_K;
    const std::int64_t quant_bytes =
        is_k_type ? (weight_layout(dtype, rows, cols).num_bytes + 255) / 256 * 256 : rows * row[0];
    const std::int64_t scale_bytes = is_k_type ? 0 : rows * row[2];
    const std::int64_t budget = dev::kEmulated ? 1 : std::int64_t{1} << 30;
    const int copies =
        static_cast<int>(std::clamp<std::int64_t>(budget / (quant_bytes + scale_bytes), 2, 64));
    Filled quants(is_quantized(dtype) ? Fill::kBits : Fill::kBF16, copies * quant_bytes);
    Filled scales(Fill::kF16Scales, copies * scale_bytes);
    const std::int64_t outputs = kEpilogue == Epilogue::kSiluMul ? rows / 2 : rows;
    for (const int batch : batches) {
      Filled x(Fill::kBF16, batch * cols * 2);
      dev::Buffer<bf16> out(static_cast<std::size_t>(batch * outputs));
      const auto product = [&](int copy) {
        const std::byte* const base = quants.data() + copy * quant_bytes;
        WeightArrays weight{dtype, base, scales.data() + copy * scale_bytes, rows, cols};
        if (is_k_type) weight = weight_arrays_at(base, dtype, rows, cols);
        return LinearArgs<bf16, bf16>{.weight = weight,
                                      .x = reinterpret_cast<const bf16*>(x.data()),
                                      .x_stride = cols,
                                      .out = out.get(),
                                      .out_stride = outputs,
                                      .num_tokens = batch};
      };
      const std::string what = std::string(name(dtype)) + " " + std::to_string(rows) + " x " +
                               std::to_string(cols) + (kEpilogue == Epilogue::kSiluMul ? " silu" : "") +
                               ", M " + std::to_string(batch);
      const auto run = [&](const char* kernel, auto&& launch) {
        const double us = median_us(copies, [&](int i, dev::stream_t stream) { launch(product(i), stream); });
        report(kernel, what, us, static_cast<double>(quant_bytes + scale_bytes));
      };
      const SplitWorkspace workspace{sums_.get(), arrived_.get()};
      if (fits_gemv_mma(product(0)))
        run("gemv_mma", [&](const auto& args, dev::stream_t stream) { gemv<kEpilogue>(args, stream); });
      if (fits_gemv_ring(product(0)) && dev::device_properties().compute_major == 9)
        run("gemv_ring", [&](const auto& args, dev::stream_t stream) {
          gemv_ring<kEpilogue>(args, workspace, num_sms_, stream);
        });
      if (batch >= 4 && fits_gemm_skinny(product(0)))
        run("gemm_skinny", [&](const auto& args, dev::stream_t stream) {
          gemm_skinny<kEpilogue>(args, workspace, num_sms_, stream);
        });
      if (batch >= 64 && fits_gemm_packed(product(0)))
        run("gemm_packed", [&](const auto& args, dev::stream_t stream) {
          gemm_packed<kEpilogue>(args, workspace, num_sms_, stream);
        });
      const dev::DeviceProperties device = dev::device_properties();
      if (batch >= 4 && fits_gemm_skinny_wgmma(product(0)) && device.compute_major == 9 &&
          device.compute_minor == 0)
        run("gemm_skinny_wgmma", [&](const auto& args, dev::stream_t stream) {
          gemm_skinny_wgmma<kEpilogue>(args, workspace, num_sms_, stream);
        });
    }
  }

 private:
  int num_sms_;
  dev::Buffer<float> sums_;
  dev::Buffer<unsigned> arrived_;
};

void measure_rows() {
  constexpr int kCols = 4096, kVocabulary = 128256;
  for (const int rows : {1, 64, 4096}) {
    Filled delta(Fill::kBF16, std::int64_t{rows} * kCols * 2),
        residual(Fill::kF32, std::int64_t{rows} * kCols * 4);
    Filled weight(Fill::kF32, kCols * 4);
    dev::Buffer<bf16> out(static_cast<std::size_t>(rows) * kCols);
    const double us = median_us(16, [&](int, dev::stream_t stream) {
      add_rms_norm(out.get(), reinterpret_cast<float*>(residual.data()),
                   reinterpret_cast<const bf16*>(delta.data()), reinterpret_cast<const float*>(weight.data()),
                   rows, kCols, 1e-5f, stream);
    });
    report("add_rms_norm", std::to_string(rows) + " x " + std::to_string(kCols), us, 12.0 * rows * kCols);
  }
  for (const int rows : {1, 64, 256})
    for (const RowSampling& row : {RowSampling{}, RowSampling{.temperature = 1},
                                   RowSampling{.temperature = 1, .top_k = 40, .top_p = 0.95f}}) {
      Filled logits(Fill::kF32, std::int64_t{rows} * kVocabulary * 4);
      std::vector<RowSampling> choices(static_cast<std::size_t>(rows), row);
      for (int i = 0; i < rows; ++i) {
        choices[static_cast<std::size_t>(i)].row = i;
        choices[static_cast<std::size_t>(i)].uniform = (i + 0.5) / rows;
      }
      dev::Buffer<RowSampling> parameters(choices);
      dev::Buffer<std::int32_t> tokens(static_cast<std::size_t>(rows));
      dev::Buffer<std::uint64_t> keys(static_cast<std::size_t>(sampling_keys(rows)));
      const double us = median_us(4, [&](int, dev::stream_t stream) {
        choose_tokens({.logits = reinterpret_cast<const float*>(logits.data()),
                       .logits_stride = kVocabulary,
                       .choices = parameters.get(),
                       .num_choices = rows,
                       .vocabulary = kVocabulary,
                       .tokens = tokens.get(),
                       .keys = keys.get(),
                       .draws = row.temperature > 0},
                      stream);
      });
      report("choose_tokens",
             std::to_string(rows) + " x " + std::to_string(kVocabulary) +
                 (row.top_k > 0         ? ", top-k and top-p"
                  : row.temperature > 0 ? ", drawn"
                                        : ", largest"),
             us, 4.0 * rows * kVocabulary);
    }
}

void measure_all(std::int64_t rows, std::int64_t cols) {
  const dev::DeviceProperties device = dev::device_properties();
  std::printf("{\"device\": \"%s\", \"sms\": %d, \"peak_gb_per_s\": %.0f}\n", device.name.c_str(),
              device.num_sms, device.memory_bytes_per_s * 1e-9);
  Products products(device.num_sms);
  const std::vector<int> batches = {1, 2, 4, 8, 16, 32, 64, 128};
  for (const DType dtype :
       {DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ4_K, DType::kQ6_K}) {
    if (rows > 0) {
      products.measure<Epilogue::kNone>(dtype, rows, cols, batches);
      continue;
    }
    for (const std::int64_t hidden : {4096, 2048}) {
      products.measure<Epilogue::kNone>(dtype, hidden * 3 / 2, hidden, batches);
      products.measure<Epilogue::kSiluMul>(dtype, hidden == 4096 ? 28672 : 16384, hidden, batches);
      products.measure<Epilogue::kNone>(dtype, hidden, hidden == 4096 ? 14336 : 8192, batches);
    }
    products.measure<Epilogue::kNone>(dtype, 128256, 4096, {1, 8, 64});
  }
  if (rows == 0) measure_rows();
}

}  // namespace
}  // namespace redline::cuda

int main(int argc, char** argv) {
  try {
    redline::cuda::measure_all(argc > 2 ? std::atoll(argv[1]) : 0, argc > 2 ? std::atoll(argv[2]) : 0);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "product_bench: %s\n", error.what());
    return 1;
  }
}
