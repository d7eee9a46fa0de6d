// cuBLASLt is opened when the backend starts, so that a program which may use a GPU runs without its library.
#include "kernels/cuda/gemm.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include "kernels/check.h"
#include "kernels/cuda/algorithm_cache.h"

namespace redline::cuda {
namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;
constexpr int kMaxCandidates = 8;

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string(call) + ": cuBLAS status " +
                             std::to_string(static_cast<int>(status)));
}

void* open_library() {
  static constexpr std::array kNames = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so",
                                        "/usr/local/cuda/lib64/libcublasLt.so"};
  for (const char* name : kNames)
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  throw std::runtime_error(std::string("the CUDA backend needs ") + kNames[0] +
                           ", which is not found: " + ::dlerror());
}

constexpr cudaDataType_t data_type(DType type) { return type == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two up to 256 that divides an address and a row's bytes.
std::uint32_t alignment(const void* address, std::int64_t stride_bytes) {
  const auto bits =
      reinterpret_cast<std::uintptr_t>(address) | static_cast<std::uintptr_t>(stride_bytes) | 256;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

struct Shape {
  std::int64_t m, n, k, out_stride, x_stride;
  DType type, out_type;
  std::uint32_t out_alignment, x_alignment, weight_alignment;
  auto operator<=>(const Shape&) const = default;
  std::string name() const {
    std::string name = std::string(redline::name(type)) + " to " + redline::name(out_type);
    for (const std::int64_t number : {m, n, k, out_stride, x_stride, std::int64_t{out_alignment},
                                      std::int64_t{x_alignment}, std::int64_t{weight_alignment}})
      name += " " + std::to_string(number);
    return name;
  }
};

}  // namespace

struct Gemm::Library {
#define REDLINE_CUBLASLT(name) decltype(&::name) name = load<decltype(&::name)>(#name)
  void* handle_to_library = open_library();
  REDLINE_CUBLASLT(cublasLtCreate);
  REDLINE_CUBLASLT(cublasLtDestroy);
  REDLINE_CUBLASLT(cublasLtMatmulDescCreate);
  REDLINE_CUBLASLT(cublasLtMatmulDescDestroy);
  REDLINE_CUBLASLT(cublasLtMatmulDescSetAttribute);
  REDLINE_CUBLASLT(cublasLtMatrixLayoutCreate);
  REDLINE_CUBLASLT(cublasLtMatrixLayoutDestroy);
  REDLINE_CUBLASLT(cublasLtMatmulPreferenceCreate);
  REDLINE_CUBLASLT(cublasLtMatmulPreferenceDestroy);
  REDLINE_CUBLASLT(cublasLtMatmulPreferenceSetAttribute);
  REDLINE_CUBLASLT(cublasLtMatmulAlgoGetHeuristic);
  REDLINE_CUBLASLT(cublasLtMatmulAlgoCheck);
  REDLINE_CUBLASLT(cublasLtGetVersion);
  REDLINE_CUBLASLT(cublasLtMatmul);
#undef REDLINE_CUBLASLT

  // A product as the library knows it, column-major: out^T [N, M] = weight [N, K] x^T [K, M].
  struct Product {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
  };

  cublasLtHandle_t handle = nullptr;
  Buffer workspace = allocate_device(kWorkspaceBytes, "cuBLASLt");
  std::map<Shape, Product> products;
  AlgorithmCache cache = cache_of(dev::device_properties().name);

  Library() { check(cublasLtCreate(&handle), "cublasLtCreate"); }
  ~Library() {
    for (auto& [shape, product] : products) {
      cublasLtMatmulDescDestroy(product.operation);
      for (cublasLtMatrixLayout_t layout : {product.weight, product.x, product.out})
        cublasLtMatrixLayoutDestroy(layout);
    }
    cublasLtDestroy(handle);
  }

  template <class Function>
  Function load(const char* name) {
    void* symbol = ::dlsym(handle_to_library, name);
    if (symbol == nullptr) throw std::runtime_error(std::string("libcublasLt has no ") + name);
    return reinterpret_cast<Function>(symbol);
  }

  cublasLtMatrixLayout_t layout(DType type, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
    cublasLtMatrixLayout_t layout = nullptr;
    check(cublasLtMatrixLayoutCreate(&layout, data_type(type), static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(cols), stride),
          "cublasLtMatrixLayoutCreate");
    return layout;
  }

  cublasStatus_t multiply(const Product& product, const GemmArgs& args, const cublasLtMatmulAlgo_t& algorithm,
                          const Stream& stream) {
    const float one = 1, zero = 0;
    return cublasLtMatmul(handle, product.operation, &one, args.weight, product.weight, args.x, product.x,
                          &zero, args.out, product.out, args.out, product.out, &algorithm, workspace.data(),
                          kWorkspaceBytes, stream.get());
  }

  AlgorithmCache cache_of(const std::string& device) {
    return {algorithm_cache_path(device), device + ", driver " + std::to_string(dev::driver_version()) +
                                              ", cuBLASLt " + std::to_string(cublasLtGetVersion())};
  }
  // What an earlier start found fastest, if the library still takes it.
  std::optional<cublasLtMatmulAlgo_t> cached(const Shape& shape, const Product& product);

  const Product& product_for(const Shape& shape, const GemmArgs& args, const Stream& stream);
  cublasLtMatmulAlgo_t fastest(const Shape& shape, const Product& product, const GemmArgs& args,
                               const Stream& stream);
};

std::optional<cublasLtMatmulAlgo_t> Gemm::Library::cached(const Shape& shape, const Product& product) {
  const auto bytes = cache.find(shape.name());
  if (!bytes) return std::nullopt;
  cublasLtMatmulAlgo_t algorithm;
  static_assert(sizeof algorithm == sizeof *bytes);
  std::memcpy(&algorithm, bytes->data(), sizeof algorithm);
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle, product.operation, product.weight, product.x,
                                                        product.out, product.out, &algorithm, &result);
  if (status != CUBLAS_STATUS_SUCCESS || result.workspaceSize > kWorkspaceBytes) return std::nullopt;
  return algorithm;
}

// The library's heuristics name a few algorithms; the one that ran fastest here is kept.
cublasLtMatmulAlgo_t Gemm::Library::fastest(const Shape& shape, const Product& product, const GemmArgs& args,
                                            const Stream& stream) {
  if (const auto known = cached(shape, product)) return *known;
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.weight_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.x_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.out_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.out_alignment);
  std::array<cublasLtMatmulHeuristicResult_t, kMaxCandidates> candidates{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle, product.operation, product.weight, product.x, product.out,
                                     product.out, preference, kMaxCandidates, candidates.data(), &found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0)
    throw std::runtime_error("cuBLASLt has no algorithm for a product of " + std::to_string(shape.m) + " x " +
                             std::to_string(shape.n) + " x " + std::to_string(shape.k));
  if (shape.m > 64 && shape.m % 64 != 0) found = 1;  // a chunk's odd end will hardly come again
  std::int64_t best_ns = -1;
  int best = 0;
  Event start, end;
  for (int i = 0; i < found && found > 1; ++i) {
    const auto run = [&] {
      return multiply(product, args, candidates[static_cast<std::size_t>(i)].algo, stream);
    };
    if (run() != CUBLAS_STATUS_SUCCESS) continue;
    start.record(stream);
    for (int repeat = 0; repeat < 3; ++repeat) check(run(), "cublasLtMatmul");
    end.record(stream);
    end.synchronize();
    const std::int64_t ns = end.elapsed_ns_since(start);
    if (best_ns < 0 || ns < best_ns) best_ns = ns, best = i;
  }
  const cublasLtMatmulAlgo_t& algorithm = candidates[static_cast<std::size_t>(best)].algo;
  if (best_ns >= 0) {
    AlgorithmBytes bytes;
    std::memcpy(bytes.data(), &algorithm, sizeof bytes);
    cache.add(shape.name(), bytes);
  }
  return algorithm;
}

const Gemm::Library::Product& Gemm::Library::product_for(const Shape& shape, const GemmArgs& args,
                                                         const Stream& stream) {
  const auto known = products.find(shape);
  if (known != products.end()) return known->second;
  Product product;
  check(cublasLtMatmulDescCreate(&product.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check(cublasLtMatmulDescSetAttribute(product.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                       sizeof transposed),
        "cublasLtMatmulDescSetAttribute");
  product.weight = layout(shape.type, shape.k, shape.n, shape.k);
  product.x = layout(shape.type, shape.k, shape.m, shape.x_stride);
  product.out = layout(shape.out_type, shape.n, shape.m, shape.out_stride);
  product.algorithm = fastest(shape, product, args, stream);
  return products.emplace(shape, product).first->second;
}

Gemm::Gemm() : library_(std::make_unique<Library>()) {}
Gemm::~Gemm() = default;

void Gemm::run(const GemmArgs& args, const Stream& stream) {
  if (args.m == 0 || args.n == 0) return;
  const Shape shape{.m = args.m,
                    .n = args.n,
                    .k = args.k,
                    .out_stride = args.out_stride,
                    .x_stride = args.x_stride,
                    .type = args.type,
                    .out_type = args.out_type,
                    .out_alignment = alignment(args.out, row_bytes(args.out_type, args.out_stride)),
                    .x_alignment = alignment(args.x, row_bytes(args.type, args.x_stride)),
                    .weight_alignment = alignment(args.weight, row_bytes(args.type, args.k))};
  const Library::Product& product = library_->product_for(shape, args, stream);
  check(library_->multiply(product, args, product.algorithm, stream), "cublasLtMatmul");
}

}  // namespace redline::cuda
