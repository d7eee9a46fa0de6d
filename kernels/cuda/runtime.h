// What the host asks of a CUDA device: memory, copies, streams, events, graphs. No CUDA header is needed to
// include this; runtime_cuda.cpp implements it with the CUDA runtime, emulation/runtime.cpp on the CPU.
//
// Every function throws DeviceError, which names the call and its error. "Asynchronous" functions only
// enqueue: what they read and write must live, and stay untouched, until the stream has been synchronised,
// and an error of theirs may surface at a later call. Streams do not wait for each other, nor for the null
// stream, but by events. The null stream is for tests.
//
// The emulation runs a stream's work as late as it may (Config::landing), at a synchronisation that waits for
// it, so that a missing one shows; and it refuses what a GPU would do wrong in silence: copies that leave an
// allocation, work on memory already freed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

struct CUstream_st;
struct CUevent_st;

namespace redline::cuda::dev {

/// A call to the device failed.
class DeviceError : public std::runtime_error {
 public:
  DeviceError(const std::string& message, bool is_sticky)
      : std::runtime_error(message), is_sticky_(is_sticky) {}
  /// Whether the device is lost to this process: a kernel went wrong, and every later call will fail.
  bool is_sticky() const { return is_sticky_; }

 private:
  bool is_sticky_;
};

/// The message says how many bytes were needed, and how many free.
class OutOfDeviceMemory : public DeviceError {
 public:
  OutOfDeviceMemory(std::size_t needed_bytes, std::size_t free_bytes);
  std::size_t needed_bytes() const { return needed_bytes_; }
  std::size_t free_bytes() const { return free_bytes_; }

 private:
  std::size_t needed_bytes_;
  std::size_t free_bytes_;
};

// Devices
// -----------------------------------------------------------------------------------------------------

/// 0 where there is no driver.
int num_devices();
/// Chooses the device that this thread's calls mean.
void use_device(int index);

struct DeviceProperties {
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  int num_sms = 0;
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
  std::size_t shared_bytes_per_block = 0;  // as much as a kernel may ask for
  int max_clock_khz = 0;
  double memory_bytes_per_s = 0;  // the memory's peak: its clock, both edges, and its width; 0 where not told
  std::string pci_bus_id;
};
DeviceProperties device_properties();

struct DeviceMemory {
  std::size_t free_bytes;
  std::size_t total_bytes;
};
DeviceMemory device_memory();
/// As 1000 major + 10 minor: of the driver, and of the runtime that this program was built with.
int driver_version();
int runtime_version();

// Memory
// ------------------------------------------------------------------------------------------------------

/// Device memory, aligned to 256 bytes, its contents undefined. `name` appears in the emulation's reports.
/// Throws OutOfDeviceMemory. Not while a stream captures.
void* malloc_device(std::size_t bytes, const char* name = "buffer");
/// Waits for all work on the device. Null is allowed.
void free_device(void* data) noexcept;
/// Page-locked host memory: what asynchronous copies from and to the host need.
void* malloc_pinned(std::size_t bytes);
void free_pinned(void* data) noexcept;

/// Asynchronous if the host's memory is page-locked; else they return when the host's memory may be reused.
void copy_to_device_async(void* device, const void* host, std::size_t bytes, CUstream_st* stream);
void copy_to_host_async(void* host, const void* device, std::size_t bytes, CUstream_st* stream);
void copy_on_device_async(void* to, const void* from, std::size_t bytes, CUstream_st* stream);
/// Sets every byte.
void fill_async(void* device, int byte, std::size_t bytes, CUstream_st* stream);

/// On the null stream, and wait until done: other streams' work is not waited for.
void copy_to_device(void* device, const void* host, std::size_t bytes);
void copy_to_host(void* host, const void* device, std::size_t bytes);
void fill(void* device, int byte, std::size_t bytes);
/// Fills with what no one is meant to read: to the race check the bytes stay uninitialised.
void poison(void* device, int byte, std::size_t bytes);

// Streams and events
// ------------------------------------------------------------------------------------------

using stream_t = CUstream_st*;
using event_t = CUevent_st*;

stream_t create_stream();
void destroy_stream(stream_t stream) noexcept;
/// Waits until everything enqueued so far is done.
void synchronize(stream_t stream);
/// Whether everything enqueued so far is done. Does not wait.
bool is_idle(stream_t stream);
/// Waits for all streams.
void sync();

/// `timed` events can be asked for elapsed_ms.
event_t create_event(bool timed = false);
void destroy_event(event_t event) noexcept;
/// The event is done when all that `stream` was given before is done.
void record(event_t event, stream_t stream);
/// What `stream` is given from here on waits for the event as it was last recorded.
void wait(stream_t stream, event_t event);
void synchronize(event_t event);
bool is_done(event_t event);
/// Between two timed events that are done.
double elapsed_ms(event_t from, event_t to);

// Graphs
// ------------------------------------------------------------------------------------------------------

/// A captured sequence of launches and copies, ready to be replayed.
using graph_t = struct Graph*;

/// From here to end_capture, work given to `stream` is recorded with its arguments instead of done. Meanwhile
/// this thread neither allocates device memory nor waits for the stream; copies need page-locked memory.
void begin_capture(stream_t stream);
/// Throws if the captured work cannot be replayed.
graph_t end_capture(stream_t stream);
/// Ends a capture that went wrong, if one is under way.
void abandon_capture(stream_t stream) noexcept;
/// Enqueues the captured work; what it copies is read when it runs.
void launch_graph(graph_t graph, stream_t stream);
std::size_t num_nodes(graph_t graph);
void destroy_graph(graph_t graph) noexcept;

}  // namespace redline::cuda::dev
