// attention_bench: paged attention of one device, against memory's bandwidth (decode) and the tensor cores
// (prefill). Prints a JSON line for each measurement.
//
//   nvcc -std=c++20 -O3 -x cu -I . -gencode arch=compute_90a,code=sm_90a tools/gpu_check/attention_bench.cpp
//        kernels/cuda/runtime_cuda.cpp kernels/check.cpp -cudart static -o attention_bench
//
// Decode runs through as many layers of cache as exceed the L2 cache several times; a captured graph of all
// of them is replayed, so that no launch is waited for. Values are random: constant ones draw less power and
// run faster. Medians of windows of at least 50 ms.
#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/runtime.h"

namespace redline::cuda {
namespace {

/// Fills with bf16 numbers of about unit variance, different everywhere.
__global__ void fill_words(std::uint32_t* words, std::size_t count, std::uint32_t seed) {
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += std::size_t{gridDim.x} * blockDim.x) {
    std::uint32_t x = static_cast<std::uint32_t>(i) * 2654435761u ^ seed;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    x ^= x >> 16;
    const float low = static_cast<float>(x & 0xffff) / 32768.f - 1,
                high = static_cast<float>(x >> 16) / 32768.f - 1;
    words[i] = pack_bf16x2(low * 1.7f, high * 1.7f);
  }
}
void fill_random(std::byte* data, std::size_t bytes, std::uint32_t seed) {
  dev::launch(fill_words, dim3(1024), dim3(256), 0, nullptr, reinterpret_cast<std::uint32_t*>(data),
              bytes / 4, seed);
}

struct Sequence {
  int num_cached;
  int num_new;
};

struct Measurement {
  std::string name;
  AttentionShape shape;
  std::vector<Sequence> sequences;
  bool take_turns = false;  // warpgroups of kWgmma's prefill at head_dim 128
};

const char* rung_name(AttentionRung rung) {
  return rung == AttentionRung::kPlain ? "plain" : rung == AttentionRung::kMma ? "mma" : "wgmma";
}

double median_ms(dev::graph_t graph, dev::stream_t stream) {
  const dev::event_t begin = dev::create_event(true), end = dev::create_event(true);
  const auto window = [&](int count) {
    dev::record(begin, stream);
    for (int i = 0; i < count; ++i) dev::launch_graph(graph, stream);
    dev::record(end, stream);
    dev::synchronize(end);
    return dev::elapsed_ms(begin, end) / count;
  };
  window(2);
  const int count = std::max(1, static_cast<int>(50 / window(2)));
  std::vector<double> windows;
  for (int i = 0; i < 7; ++i) windows.push_back(window(count));
  std::sort(windows.begin(), windows.end());
  dev::destroy_event(begin);
  dev::destroy_event(end);
  return windows[windows.size() / 2];
}

void measure(const Measurement& m) {
  const AttentionShape& s = m.shape;
  constexpr int kBlockSize = 16;
  std::vector<SequenceWork> work;
  std::vector<std::int32_t> row_sequence, tables;
  double pairs = 0, tokens = 0;
  for (const Sequence& sequence : m.sequences) {
    SequenceWork w;
    w.query_start = static_cast<std::int32_t>(row_sequence.size());
    w.num_new = sequence.num_new;
    w.num_cached = sequence.num_cached;
    w.table_start = static_cast<std::int32_t>(tables.size());
    const int length = sequence.num_cached + sequence.num_new;
    tables.resize(tables.size() + static_cast<std::size_t>((length + kBlockSize - 1) / kBlockSize));
    row_sequence.resize(row_sequence.size() + static_cast<std::size_t>(sequence.num_new),
                        static_cast<std::int32_t>(work.size()));
    work.push_back(w);
    tokens += length;
    pairs += static_cast<double>(sequence.num_new) * sequence.num_cached +
             0.5 * sequence.num_new * (sequence.num_new + 1.0);
  }
  std::iota(tables.begin(), tables.end(), 0);
  std::shuffle(tables.begin(), tables.end(), std::mt19937(1));
  const int num_tokens = static_cast<int>(row_sequence.size());
  const std::size_t layer_bytes =
      tables.size() * static_cast<std::size_t>(s.num_kv_heads * 2 * kBlockSize * s.head_dim) * 2;
  const bool decode = num_tokens == static_cast<int>(work.size());
  const int num_layers =
      decode ? static_cast<int>(std::clamp<std::size_t>((std::size_t{1} << 30) / layer_bytes, 2, 64)) : 1;

  dev::Buffer<std::byte> cache(layer_bytes * static_cast<std::size_t>(num_layers));
  fill_random(cache.get(), cache.size(), 1);
  const std::int64_t q_stride = (s.num_q_heads + 2 * s.num_kv_heads) * s.head_dim;
  dev::Buffer<std::byte> q(static_cast<std::size_t>(num_tokens * q_stride) * 2);
  dev::Buffer<std::byte> out(static_cast<std::size_t>(num_tokens * s.num_q_heads * s.head_dim) * 2);
  fill_random(q.get(), q.size(), 2);
  const dev::Buffer<SequenceWork> device_work(work);
  const dev::Buffer<std::int32_t> device_rows(row_sequence), device_tables(tables);
  dev::Buffer<std::byte> workspace(attention_workspace_bytes(s, num_tokens, static_cast<int>(work.size())));

  AttentionArgs args;
  args.shape = s;
  args.batch.sequences = device_work.get();
  args.batch.row_sequence = device_rows.get();
  args.batch.block_tables = device_tables.get();
  args.batch.num_sequences = static_cast<int>(work.size());
  args.batch.num_tokens = num_tokens;
  args.plan = attention_plan(workspace.get(), s, num_tokens, static_cast<int>(work.size()));
  args.counts = count_attention_work(work, s);
  args.q = q.get();
  args.out = out.get();
  args.q_stride = q_stride;
  args.out_stride = s.num_q_heads * s.head_dim;
  args.scale = 1.f / std::sqrt(static_cast<float>(s.head_dim));

  const dev::stream_t stream = dev::create_stream();
  launch_attention_plan(args, stream);
  dev::synchronize(stream);
  dev::begin_capture(stream);
  for (int layer = 0; layer < num_layers; ++layer) {
    args.kv = {cache.get() + layer_bytes * static_cast<std::size_t>(layer), static_cast<int>(tables.size()),
               kBlockSize, s.num_kv_heads, s.head_dim};
    if (m.take_turns)
      launch_prefill_wgmma_padded<128, true>(args, stream);
    else
      launch_paged_attention(args, stream);
  }
  const dev::graph_t graph = dev::end_capture(stream);
  const double us = median_ms(graph, stream) * 1e3 / num_layers;
  const double bytes = tokens * s.num_kv_heads * s.head_dim * 2 * 2,
               flops = 4.0 * s.num_q_heads * s.head_dim * pairs;
  std::printf(
      "{\"kernel\": \"attention\", \"case\": \"%s\", \"rung\": \"%s\", \"q_heads\": %d, \"kv_heads\": %d, "
      "\"head_dim\": %d, \"us\": %.2f, \"kv_gb_per_s\": %.1f, \"tflop_per_s\": %.1f}\n",
      m.name.c_str(), rung_name(s.rung), s.num_q_heads, s.num_kv_heads, s.head_dim, us, bytes / us * 1e-3,
      flops / us * 1e-6);
  std::fflush(stdout);
  dev::destroy_graph(graph);
  dev::destroy_stream(stream);
}

void measure_all() {
  const dev::DeviceProperties device = dev::device_properties();
  const int capability = device.compute_major * 10 + device.compute_minor;
  std::printf("{\"device\": \"%s\", \"sms\": %d, \"peak_gb_per_s\": %.0f}\n", device.name.c_str(),
              device.num_sms, device.memory_bytes_per_s * 1e-9);
  const auto shape = [&](int q_heads, int kv_heads, int head_dim) {
    AttentionShape s{
        q_heads, kv_heads, head_dim, DType::kBF16, DType::kBF16, device.num_sms, AttentionRung::kPlain};
    s.rung = highest_attention_rung(s, 16, capability);
    return s;
  };
  const auto on = [](AttentionShape s, AttentionRung rung) {
    s.rung = rung;
    return s;
  };
  const auto batch = [](int count, Sequence sequence) {
    return std::vector<Sequence>(static_cast<std::size_t>(count), sequence);
  };
  std::vector<Measurement> list;
  for (const auto& [count, context] :
       {std::pair{1, 1024}, {1, 4096}, {1, 32768}, {16, 1024}, {64, 1024}, {256, 1024}})
    for (const AttentionRung rung : {AttentionRung::kPlain, AttentionRung::kMma, AttentionRung::kWgmma})
      if (rung != AttentionRung::kWgmma || capability == 90)
        list.push_back({"decode " + std::to_string(count) + " x " + std::to_string(context),
                        on(shape(32, 8, 128), rung), batch(count, {context - 1, 1})});
  list.push_back({"decode 64 x 1024", shape(32, 8, 64), batch(64, {1023, 1})});
  list.push_back({"decode 64 x 1024", shape(9, 3, 64), batch(64, {1023, 1})});
  list.push_back({"decode 64 x 1024", shape(28, 4, 128), batch(64, {1023, 1})});
  list.push_back({"decode 64 x 1024", shape(8, 8, 256), batch(64, {1023, 1})});
  std::vector<Sequence> ragged;
  std::mt19937 random(7);
  for (int i = 0; i < 64; ++i) ragged.push_back({static_cast<int>(random() % 4096), 1});
  list.push_back({"decode 64 ragged", shape(32, 8, 128), ragged});
  for (const AttentionRung rung : {AttentionRung::kMma, AttentionRung::kWgmma}) {
    if (rung == AttentionRung::kWgmma && capability != 90) continue;
    for (const int length : {512, 2048, 8192, 32768}) {
      const Measurement m{"prefill " + std::to_string(length), on(shape(32, 8, 128), rung), {{0, length}}};
      list.push_back(m);
      if (rung == AttentionRung::kWgmma) list.push_back({m.name + ", turns", m.shape, m.sequences, true});
    }
    list.push_back({"prefill 8192", on(shape(32, 8, 64), rung), {{0, 8192}}});
    list.push_back({"prefill 8192", on(shape(32, 8, 96), rung), {{0, 8192}}});
    list.push_back({"prefill 8192", on(shape(8, 8, 256), rung), {{0, 8192}}});
    list.push_back({"prefill 4 x 2048", on(shape(32, 8, 128), rung), batch(4, {0, 2048})});
    list.push_back({"chunk 2048 after 14336", on(shape(32, 8, 128), rung), {{14336, 2048}}});
    list.push_back({"verify 8 after 4096", on(shape(32, 8, 128), rung), {{4096, 8}}});
  }
  for (const Measurement& m : list) measure(m);
}

}  // namespace
}  // namespace redline::cuda

int main() {
  try {
    redline::cuda::measure_all();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "attention_bench: %s\n", error.what());
    return 1;
  }
}
