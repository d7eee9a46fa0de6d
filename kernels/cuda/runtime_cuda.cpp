// The device runtime on a GPU. Compiled by nvcc or by a C++ compiler; linked with the CUDA runtime.
#include "kernels/cuda/runtime.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <iterator>

namespace redline::cuda::dev {

void check(cudaError_t error, const char* call);  // device_cuda_host.h, which only nvcc can read

namespace {

/// After these no call of this process succeeds any more.
bool ends_the_context(cudaError_t error) {
  static constexpr cudaError_t kSticky[] = {cudaErrorIllegalAddress,
                                            cudaErrorLaunchTimeout,
                                            cudaErrorAssert,
                                            cudaErrorHardwareStackError,
                                            cudaErrorIllegalInstruction,
                                            cudaErrorMisalignedAddress,
                                            cudaErrorInvalidAddressSpace,
                                            cudaErrorInvalidPc,
                                            cudaErrorLaunchFailure,
                                            cudaErrorECCUncorrectable,
                                            cudaErrorNvlinkUncorrectable,
                                            cudaErrorTensorMemoryLeak,
                                            cudaErrorUnknown};
  return std::find(std::begin(kSticky), std::end(kSticky), error) != std::end(kSticky);
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that later calls do not report this one again
  throw DeviceError(
      std::string(call) + ": " + cudaGetErrorName(error) + " (" + cudaGetErrorString(error) + ")",
      ends_the_context(error));
}

/// A graph and its executable form.
struct Graph {
  cudaGraphExec_t executable;
  std::size_t num_nodes;
};

OutOfDeviceMemory::OutOfDeviceMemory(std::size_t needed_bytes, std::size_t free_bytes)
    : DeviceError("device memory: " + std::to_string(needed_bytes) + " bytes needed, " +
                      std::to_string(free_bytes) + " free",
                  false),
      needed_bytes_(needed_bytes),
      free_bytes_(free_bytes) {}

int num_devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    return 0;
  }
  check(error, "cudaGetDeviceCount");
  return count;
}

void use_device(int index) { check(cudaSetDevice(index), "cudaSetDevice"); }

DeviceProperties device_properties() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp all;
  check(cudaGetDeviceProperties(&all, device), "cudaGetDeviceProperties");
  DeviceProperties properties;
  properties.name = all.name;
  properties.compute_major = all.major;
  properties.compute_minor = all.minor;
  properties.num_sms = all.multiProcessorCount;
  properties.memory_bytes = all.totalGlobalMem;
  properties.l2_bytes = static_cast<std::size_t>(all.l2CacheSize);
  properties.shared_bytes_per_block = all.sharedMemPerBlockOptin;
  properties.max_clock_khz = attribute(cudaDevAttrClockRate, device);
  const double memory_hz = 1e3 * attribute(cudaDevAttrMemoryClockRate, device);
  properties.memory_bytes_per_s = 2 * memory_hz * attribute(cudaDevAttrGlobalMemoryBusWidth, device) / 8;
  char bus_id[32] = {};
  check(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, device), "cudaDeviceGetPCIBusId");
  properties.pci_bus_id = bus_id;
  return properties;
}

DeviceMemory device_memory() {
  DeviceMemory memory{};
  check(cudaMemGetInfo(&memory.free_bytes, &memory.total_bytes), "cudaMemGetInfo");
  return memory;
}

int driver_version() {
  int version = 0;
  check(cudaDriverGetVersion(&version), "cudaDriverGetVersion");
  return version;
}

int runtime_version() { return CUDART_VERSION; }

void* malloc_device(std::size_t bytes, const char*) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, std::max<std::size_t>(bytes, 1));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw OutOfDeviceMemory(bytes, device_memory().free_bytes);
  }
  check(error, "cudaMalloc");
  return data;
}

void free_device(void* data) noexcept { cudaFree(data); }

void* malloc_pinned(std::size_t bytes) {
  void* data = nullptr;
  check(cudaMallocHost(&data, std::max<std::size_t>(bytes, 1)), "cudaMallocHost");
  return data;
}

void free_pinned(void* data) noexcept { cudaFreeHost(data); }

void copy_to_device_async(void* device, const void* host, std::size_t bytes, stream_t stream) {
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream),
        "cudaMemcpyAsync to the device");
}
void copy_to_host_async(void* host, const void* device, std::size_t bytes, stream_t stream) {
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync to the host");
}
void copy_on_device_async(void* to, const void* from, std::size_t bytes, stream_t stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "cudaMemcpyAsync on the device");
}
void fill_async(void* device, int byte, std::size_t bytes, stream_t stream) {
  check(cudaMemsetAsync(device, byte, bytes, stream), "cudaMemsetAsync");
}

void copy_to_device(void* device, const void* host, std::size_t bytes) {
  check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
  synchronize(stream_t{});  // from pageable memory, it may return before the last bytes have arrived
}
void copy_to_host(void* host, const void* device, std::size_t bytes) {
  check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
}
void fill(void* device, int byte, std::size_t bytes) {
  fill_async(device, byte, bytes, nullptr);
  synchronize(stream_t{});
}

void poison(void* device, int byte, std::size_t bytes) { fill(device, byte, bytes); }

stream_t create_stream() {
  stream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  return stream;
}
void destroy_stream(stream_t stream) noexcept { cudaStreamDestroy(stream); }
void synchronize(stream_t stream) { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }
bool is_idle(stream_t stream) {
  const cudaError_t error = cudaStreamQuery(stream);
  if (error == cudaErrorNotReady) return false;
  check(error, "cudaStreamQuery");
  return true;
}
void sync() { check(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }

event_t create_event(bool timed) {
  event_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming),
        "cudaEventCreateWithFlags");
  return event;
}
void destroy_event(event_t event) noexcept { cudaEventDestroy(event); }
void record(event_t event, stream_t stream) { check(cudaEventRecord(event, stream), "cudaEventRecord"); }
void wait(stream_t stream, event_t event) {
  check(cudaStreamWaitEvent(stream, event), "cudaStreamWaitEvent");
}
void synchronize(event_t event) { check(cudaEventSynchronize(event), "cudaEventSynchronize"); }
bool is_done(event_t event) {
  const cudaError_t error = cudaEventQuery(event);
  if (error == cudaErrorNotReady) return false;
  check(error, "cudaEventQuery");
  return true;
}
double elapsed_ms(event_t from, event_t to) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, from, to), "cudaEventElapsedTime");
  return milliseconds;
}

void begin_capture(stream_t stream) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

graph_t end_capture(stream_t stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  std::size_t num_nodes = 0;
  cudaGraphExec_t executable = nullptr;
  cudaError_t error = cudaGraphGetNodes(graph, nullptr, &num_nodes);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "cudaGraphInstantiate");
  return new Graph{executable, num_nodes};
}

void abandon_capture(stream_t stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream, &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void launch_graph(graph_t graph, stream_t stream) {
  check(cudaGraphLaunch(graph->executable, stream), "cudaGraphLaunch");
}
std::size_t num_nodes(graph_t graph) { return graph->num_nodes; }
void destroy_graph(graph_t graph) noexcept {
  if (!graph) return;
  cudaGraphExecDestroy(graph->executable);
  delete graph;
}

}  // namespace redline::cuda::dev
