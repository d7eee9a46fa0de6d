#include "kernels/cuda/ceilings.h"

#include <algorithm>
#include <array>
#include <functional>
#include <random>
#include <vector>

#include "kernels/convert.h"
#include "kernels/cuda/ceilings.cuh"

namespace redline::cuda {
namespace {

constexpr std::int64_t kMostBytes = std::int64_t{2} << 30;
constexpr std::int64_t kProductSize = 8192;
constexpr int kRuns = 9;

// Seconds of a run, after one that warms up.
double median_s(const Stream& stream, const std::function<void()>& run) {
  run();
  std::array<std::int64_t, kRuns> ns{};
  Event start, end;
  for (std::int64_t& time : ns) {
    start.record(stream);
    run();
    end.record(stream);
    end.synchronize();
    time = end.elapsed_ns_since(start);
  }
  std::nth_element(ns.begin(), ns.begin() + kRuns / 2, ns.end());
  return static_cast<double>(ns[kRuns / 2]) * 1e-9;
}

// Zeros would run faster than real data does.
void fill_with_random_bf16(Buffer& buffer, const Stream& stream) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<std::uint16_t> values(std::size_t{1} << 20);
  for (std::uint16_t& value : values) value = f32_to_bf16(normal(random));
  const std::size_t bytes = values.size() * sizeof values[0];
  for (std::size_t at = 0; at < buffer.size(); at += bytes)
    dev::copy_to_device_async(buffer.data() + at, values.data(), std::min(bytes, buffer.size() - at),
                              stream.get());
  stream.synchronize();
}

}  // namespace

Peaks measure_ceilings(Gemm& gemm, const Stream& stream, int num_sms) {
  Peaks peaks;
  const auto free_bytes = static_cast<std::int64_t>(dev::device_memory().free_bytes);
  const std::int64_t bytes = std::min(kMostBytes, free_bytes / 4) / 256 * 256;
  Buffer memory = allocate_device(static_cast<std::size_t>(bytes), "ceilings");
  Buffer sink = allocate_device(sizeof(float), "sink");
  fill_with_random_bf16(memory, stream);

  peaks.bandwidth = static_cast<double>(bytes) / median_s(stream, [&] {
                      launch_read(memory.data(), bytes, reinterpret_cast<std::uint32_t*>(sink.data()),
                                  num_sms, stream.get());
                    });

  constexpr int kSteps = 4096;
  std::int64_t flops = 0;
  const double fma_s = median_s(stream, [&] {
    flops = launch_fma(kSteps, reinterpret_cast<float*>(sink.data()), num_sms, stream.get());
  });
  peaks.flops[static_cast<std::size_t>(ComputeType::kF32)] = static_cast<double>(flops) / fma_s;

  std::int64_t n = kProductSize;
  while (3 * 2 * n * n > bytes) n /= 2;
  if (n < 1024) return peaks;
  GemmArgs product{.out = memory.data() + 4 * n * n,
                   .x = memory.data(),
                   .weight = memory.data() + 2 * n * n,
                   .m = n,
                   .n = n,
                   .k = n,
                   .out_stride = n,
                   .x_stride = n};
  const double product_s = median_s(stream, [&] { gemm.run(product, stream); });
  peaks.flops[static_cast<std::size_t>(ComputeType::kBF16)] =
      2.0 * static_cast<double>(n * n * n) / product_s;
  return peaks;
}

}  // namespace redline::cuda
