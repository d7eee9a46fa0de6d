#include <algorithm>
#include <stdexcept>

#include "kernels/cuda/host.h"

namespace redline::cuda::dev {
namespace {

void free_memory(void* memory, std::size_t) { cudaFree(memory); }
void free_pinned(void* memory, std::size_t) { cudaFreeHost(memory); }

cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

int num_devices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

DeviceProperties select_device(int device) {
  const int count = num_devices();
  if (device < 0 || device >= count)
    throw std::runtime_error("there is no CUDA device " + std::to_string(device) + ": the driver shows " +
                             std::to_string(count));
  check(cudaSetDevice(device), "cudaSetDevice");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  DeviceProperties result;
  result.name = properties.name;
  result.num_multiprocessors = properties.multiProcessorCount;
  result.compute_capability = 10 * properties.major + properties.minor;
  result.memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem);
  result.l2_bytes = properties.l2CacheSize;
  return result;
}

std::int64_t free_bytes() {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<std::int64_t>(free);
}

redline::Buffer allocate(std::size_t bytes) {
  if (bytes == 0) return {};
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw std::runtime_error("the GPU has " + std::to_string(free_bytes() >> 20) + " MiB free, " +
                             std::to_string(bytes >> 20) + " MiB are needed");
  }
  check(error, "cudaMalloc");
  return {memory, bytes, free_memory};
}

redline::Buffer allocate_pinned(std::size_t bytes) {
  if (bytes == 0) return {};
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "cudaMallocHost");
  return {memory, bytes, free_pinned};
}

void copy_async(void* to, const void* from, std::size_t bytes, stream_t stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), "cudaMemcpyAsync");
}

void fill_async(void* to, int byte, std::size_t bytes, stream_t stream) {
  check(cudaMemsetAsync(to, byte, bytes, stream), "cudaMemsetAsync");
}

void copy(void* to, const void* from, std::size_t bytes) {
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy");
}

void synchronize(stream_t stream) { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate"); }
Stream::~Stream() { cudaStreamDestroy(stream_); }

Event::Event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  event_ = event;
}
Event::~Event() { cudaEventDestroy(as_event(event_)); }
void Event::record(stream_t stream) { check(cudaEventRecord(as_event(event_), stream), "cudaEventRecord"); }
void Event::synchronize() { check(cudaEventSynchronize(as_event(event_)), "cudaEventSynchronize"); }
std::int64_t Event::elapsed_ns_until(const Event& later) const {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, as_event(event_), as_event(later.event_)), "cudaEventElapsedTime");
  return static_cast<std::int64_t>(static_cast<double>(ms) * 1e6);
}

Graph::~Graph() {
  if (executable_ != nullptr) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

void Graph::begin_capture(stream_t stream) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

Graph Graph::end_capture(stream_t stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "cudaGraphInstantiate");
  Graph result;
  result.executable_ = executable;
  return result;
}

void Graph::launch(stream_t stream) const {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), stream), "cudaGraphLaunch");
}

}  // namespace redline::cuda::dev
