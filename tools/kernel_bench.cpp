// redline_kernel_bench: matrix products of one backend, each held against its own roofline.
//
// A pair is, back to back: one read of all the packed weights, one loop of bare multiply-adds in the kernel's
// arithmetic, and the product itself over all the weights. The roofline of a pair is the longer of what its
// own read and its own loop say the product's bytes and operations take; medians over pairs cancel what other
// programs and the weather of a virtual machine do to all three.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace redline {
namespace {

struct Options {
  std::vector<std::string> dtypes = {"q4_k", "q6_k", "q5_k", "q4_1", "q4_0", "q8_0", "bf16", "f16", "f32"};
  std::vector<std::string> shapes = {"8192x2048"};
  std::vector<std::int64_t> rows = {1, 4, 8, 16, 512};
  std::string isa;
  int threads = 0;
  int pairs = 11;
  std::int64_t weight_mib = 256;
  bool own_clock = false;
  bool json = false;
};

struct Product {
  DType dtype{};
  std::int64_t n = 0, k = 0, m = 0;
};

double now_s(bool own_clock) {
  timespec t{};
  clock_gettime(own_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

// m tokens of one sequence, for the ledger.
class Step {
 public:
  Step(Ops& ops, std::int64_t m) : ids_(static_cast<std::size_t>(m)), slots_(ids_.size()) {
    work_.num_new = static_cast<std::int32_t>(m);
    BatchView batch;
    batch.sequences = {&work_, 1};
    batch.token_ids = batch.positions = ids_;
    batch.slots = slots_;
    ops.begin_step(batch);
  }

 private:
  std::vector<std::int32_t> ids_;
  std::vector<std::int64_t> slots_;
  SequenceWork work_;
};

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options),
        ops_(make_cpu_ops({options.threads, options.isa})),
        kernels_(cpu::kernels_of(ops_->name().substr(4))),
        pool_(ops_->num_threads()) {}

  void run(const Product& product) {
    std::vector<PackedMatrix> weights = random_weights(product);
    const ComputeType compute = ops_->compute_type(OpKind::kLinear, product.dtype);
    const auto copies = static_cast<double>(weights.size());
    const double bytes = copies * static_cast<double>(weights[0].view.stored_bytes);
    const double ops = copies * 2.0 * static_cast<double>(product.n * product.k * product.m);
    std::vector<float> x(static_cast<std::size_t>(product.m * product.k)),
        out(static_cast<std::size_t>(product.m * product.n));
    std::mt19937 random(1);
    for (float& v : x) v = static_cast<float>(static_cast<int>(random() % 2001) - 1000) * 1e-3f;

    std::vector<double> shares, times, ceilings;
    for (int pair = -1; pair < options_.pairs; ++pair) {  // the first warms up
      const double read_s = read(weights), op_s = 1 / loop_rate(compute);
      const Step step(*ops_, product.m);
      const double start = now_s(options_.own_clock);
      for (const PackedMatrix& weight : weights)
        ops_->linear(f32_view(out.data(), product.m, product.n), f32_view(x.data(), product.m, product.k),
                     weight.view, Part::kFfn);
      const double product_s = now_s(options_.own_clock) - start;
      if (pair < 0) continue;
      times.push_back(product_s);
      ceilings.push_back(std::max(read_s, ops * op_s));
      shares.push_back(ceilings.back() / product_s);
    }
    report(product, compute, quantile(times, 0.5), quantile(ceilings, 0.5), shares, bytes, ops);
  }

 private:
  std::vector<PackedMatrix> random_weights(const Product& product) {
    const std::int64_t bytes = row_bytes(product.dtype, product.k);
    std::vector<std::byte> rows(static_cast<std::size_t>(bytes * 61));
    std::mt19937 random(7);
    // Finite in every type, and no denormal float, which costs some processors a hundred cycles.
    const int set = is_quantized(product.dtype) ? 0 : 0x20;
    for (std::byte& b : rows) b = static_cast<std::byte>((random() & 0x3b) | set);
    if (product.dtype == DType::kMXFP4)  // no subnormal scales, which are slow
      for (std::size_t i = 0; i < rows.size(); i += 17) rows[i] = std::byte{120};
    const MatrixSource source{product.dtype, product.n, product.k,
                              [&](std::int64_t row) { return rows.data() + row % 61 * bytes; }};
    const std::int64_t packed = ops_->packed_bytes(product.dtype, product.n, product.k);
    // A prefill-sized product is slow enough on one matrix.
    const std::int64_t wanted = product.m > 64 ? 1 : (options_.weight_mib << 20) / packed;
    std::vector<PackedMatrix> weights;
    for (std::int64_t i = 0; i < std::max<std::int64_t>(wanted, 1); ++i)
      weights.push_back(ops_->pack(source));
    return weights;
  }

  // Seconds of one read of all weights.
  double read(const std::vector<PackedMatrix>& weights) {
    const double start = now_s(options_.own_clock);
    for (const PackedMatrix& weight : weights) {
      const std::int64_t units = weight.view.stored_bytes / 512, chunks = 8 * pool_.num_threads();
      pool_.run(chunks, [&](std::int64_t chunk, int) {
        const std::int64_t first = units * chunk / chunks, last = units * (chunk + 1) / chunks;
        sink_ ^= kernels_.ceilings.read(weight.view.data + first * 512,
                                        static_cast<std::size_t>((last - first) * 512));
      });
    }
    return now_s(options_.own_clock) - start;
  }

  // Operations per second of the bare loop on all threads.
  double loop_rate(ComputeType compute) {
    for (const cpu::ComputeLoop* loop : kernels_.ceilings.compute) {
      if (!loop || loop->type != compute) continue;
      constexpr std::int64_t kIterations = 20000;
      const std::int64_t chunks = 16 * pool_.num_threads();
      const double start = now_s(options_.own_clock);
      pool_.run(chunks, [&](std::int64_t, int) { sink_ ^= loop->run(kIterations); });
      return static_cast<double>(chunks * kIterations * loop->ops_per_iteration) /
             (now_s(options_.own_clock) - start);
    }
    return 1e30;  // this instruction set has no such loop: held against memory alone
  }

  void report(const Product& product, ComputeType compute, double time_s, double ceiling_s,
              const std::vector<double>& shares, double bytes, double ops) const {
    if (options_.json) {
      std::printf(
          "{\"isa\": \"%s\", \"threads\": %d, \"dtype\": \"%s\", \"compute\": \"%s\", \"n\": %lld, \"k\": "
          "%lld, "
          "\"m\": %lld, \"time_s\": %.6g, \"roofline_s\": %.6g, \"bytes_per_s\": %.4g, \"ops_per_s\": %.4g, "
          "\"share\": %.4f, \"share_q1\": %.4f, \"share_q3\": %.4f, \"pairs\": %d}\n",
          kernels_.isa, pool_.num_threads(), name(product.dtype), name(compute),
          static_cast<long long>(product.n), static_cast<long long>(product.k),
          static_cast<long long>(product.m), time_s, ceiling_s, bytes / time_s, ops / time_s,
          quantile(shares, 0.5), quantile(shares, 0.25), quantile(shares, 0.75), options_.pairs);
    } else {
      std::printf(
          "%-5s %-5s %6lld x %5lld  m %4lld  %7.2f GB/s %7.1f GOP/s  %5.1f %% of its roofline (%.1f to "
          "%.1f)\n",
          name(product.dtype), name(compute), static_cast<long long>(product.n),
          static_cast<long long>(product.k), static_cast<long long>(product.m), bytes / time_s / 1e9,
          ops / time_s / 1e9, 100 * quantile(shares, 0.5), 100 * quantile(shares, 0.25),
          100 * quantile(shares, 0.75));
    }
    std::fflush(stdout);
  }

  const Options& options_;
  std::unique_ptr<Ops> ops_;  // named "cpu ISA"
  const cpu::KernelTable& kernels_;
  ThreadPool pool_;
  std::atomic<std::int64_t> sink_{0};
};

int run_main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Matrix products against their roofline: an interleaved read of the same bytes, or bare arithmetic"};
  app.add_option("--dtype", options.dtypes, "Weight types")->delimiter(',')->capture_default_str();
  app.add_option("--shape", options.shapes, "N x K of the weights, as 8192x2048")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--rows", options.rows, "Rows of activations")->delimiter(',')->capture_default_str();
  app.add_option("--threads", options.threads, "0: one per core")->capture_default_str();
  app.add_option(
      "--isa", options.isa,
      "portable, avx2, avx2_vnni, avx512, avx512_vnni, avx512_bf16 or avx512_amx; the fastest by default");
  app.add_option("--pairs", options.pairs, "Interleaved pairs; medians count")->capture_default_str();
  app.add_option("--weight-mib", options.weight_mib, "Weights to stream through in a decode-sized product")
      ->capture_default_str();
  app.add_flag("--own-clock", options.own_clock,
               "Time by this process's CPU clock (one thread, busy machine)");
  app.add_flag("--json", options.json, "JSON lines");
  CLI11_PARSE(app, argc, argv);

  Bench bench(options);
  for (const std::string& shape : options.shapes)
    for (const std::string& dtype_name : options.dtypes)
      for (const std::int64_t m : options.rows) {
        Product product;
        long long n = 0, k = 0;
        const auto dtype = dtype_from_name(dtype_name);
        if (!dtype || std::sscanf(shape.c_str(), "%lldx%lld", &n, &k) != 2 || n < 1 || k < 1 ||
            k % traits(*dtype).block_elements != 0 || m < 1) {
          std::fprintf(stderr,
                       "redline_kernel_bench: %s of %s by %lld rows: expected a type such as q8_0, N x K "
                       "with K a multiple of the type's block, and at least 1 row\n",
                       dtype_name.c_str(), shape.c_str(), static_cast<long long>(m));
          return 2;
        }
        product = {*dtype, n, k, m};
        bench.run(product);
      }
  return 0;
}

}  // namespace
}  // namespace redline

int main(int argc, char** argv) { return redline::run_main(argc, argv); }
