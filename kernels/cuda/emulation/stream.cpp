// The host's calls, emulated: streams, events, graphs.
#include <chrono>
#include <memory>
#include <utility>

#include "kernels/cuda/device_emulated.h"
#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/device.h"

namespace redline::cuda {
namespace emulation {
namespace {

double now_ms() {
  const auto since_start = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(since_start).count();
}

}  // namespace

Device& Device::get() {
  static Device device;
  return device;
}

void Device::check_usable(const char* call) const {
  if (!lost.empty()) throw dev::DeviceError(text(call, ": ", lost), true);
}

void Device::check_not_capturing(const char* call) const {
  check_usable(call);
  for (const CUstream_st* stream : streams) {
    if (!stream->capture || stream->capturing_thread != std::this_thread::get_id()) continue;
    throw dev::DeviceError(text(call, ": not possible while a stream of this thread captures"), false);
  }
}

void Device::enqueue(CUstream_st* stream, const char* call, std::function<void()> run, bool launches) {
  if (!stream) {
    check_not_capturing(call);
    run();
    return;
  }
  check_usable(call);
  if (stream->capture) {
    stream->capture->nodes.push_back({std::move(run), launches});
    return;
  }
  stream->pending.push_back({std::move(run), launches});
  ++stream->num_given;
  land_some(*stream);
}

void Device::land_some(CUstream_st& stream) {
  const Landing landing = config().landing;
  if (landing == Landing::kLazy) return;
  if (landing == Landing::kEager) return run_until(stream, stream.num_given);
  if (random_() % 2) run_until(stream, stream.num_done + random_() % (stream.pending.size() + 1));
}

void Device::run_one(CUstream_st& stream) {
  const Operation operation = std::move(stream.pending.front());
  stream.pending.pop_front();
  ++stream.num_done;
  try {
    operation.run();
  } catch (const std::exception& error) {
    if (lost.empty()) lost = error.what();
    throw dev::DeviceError(lost, true);
  }
}

void Device::run_until(CUstream_st& stream, std::uint64_t num_done) {
  while (stream.num_done < num_done) run_one(stream);
}

void Device::run_all() {
  check_usable("sync");
  for (CUstream_st* stream : streams) run_until(*stream, stream->num_given);
}

void reset_device() {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.lost.clear();
  for (CUstream_st* stream : device.streams) {
    stream->num_done = stream->num_given;
    stream->pending.clear();
  }
}

void submit(CUstream_st* stream, std::function<void()> run, bool dependent) {
  Device& device = Device::get();
  const auto lock = device.lock();
  Operation* last = nullptr;
  if (dependent && stream && stream->capture) {
    if (!stream->capture->nodes.empty()) last = &stream->capture->nodes.back();
  } else if (dependent && stream && !stream->pending.empty()) {
    last = &stream->pending.back();
  }
  if (last && last->launches) {
    run = [prior = std::exchange(last->run, [] {}), run = std::move(run)] { launch_before(prior, run); };
    last->launches = false;
  }
  device.enqueue(stream, "launch", std::move(run), true);
}

}  // namespace emulation

namespace dev {

using namespace emulation;

stream_t create_stream() {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_usable("create_stream");
  return *device.streams.insert(std::make_unique<CUstream_st>().release()).first;
}

void destroy_stream(stream_t stream) noexcept {
  if (!stream) return;
  Device& device = Device::get();
  const auto lock = device.lock();
  try {
    device.run_until(*stream, stream->num_given);
  } catch (const std::exception&) {
    // the device is lost: the next call says so
  }
  abandon_capture(stream);
  device.streams.erase(stream);
  delete stream;
}

void synchronize(stream_t stream) {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_not_capturing("synchronize");
  if (stream) device.run_until(*stream, stream->num_given);
}

bool is_idle(stream_t stream) {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_not_capturing("is_idle");
  if (!stream || stream->pending.empty()) return true;
  device.run_one(*stream);  // time passes
  return false;
}

void sync() {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_not_capturing("sync");
  device.run_all();
}

event_t create_event(bool timed) {
  auto event = std::make_unique<CUevent_st>();
  event->timed = timed;
  return event.release();
}

void destroy_event(event_t event) noexcept {
  if (!event) return;
  const auto lock = Device::get().lock();
  if (event->stream && Device::get().streams.contains(event->stream)) {
    try {
      Device::get().run_until(*event->stream, event->num_given);
    } catch (const std::exception&) {
      // the device is lost: the next call says so
    }
  }
  delete event;
}

void record(event_t event, stream_t stream) {
  Device& device = Device::get();
  const auto lock = device.lock();
  if (stream && stream->capture) throw DeviceError("record: events in captured work are not emulated", false);
  event->recorded = true;
  event->stream = nullptr;
  device.enqueue(stream, "record", [event] { event->time_ms = now_ms(); });
  if (!stream) return;
  event->stream = stream;
  event->num_given = stream->num_given;
}

void wait(stream_t stream, event_t event) {
  Device& device = Device::get();
  const auto lock = device.lock();
  if (stream && stream->capture) throw DeviceError("wait: events in captured work are not emulated", false);
  CUstream_st* const awaited = event->stream;
  const std::uint64_t num_done = event->num_given;
  device.enqueue(stream, "wait", [&device, awaited, num_done] {
    if (awaited && device.streams.contains(awaited)) device.run_until(*awaited, num_done);
  });
}

void synchronize(event_t event) {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_not_capturing("synchronize");
  if (event->stream && device.streams.contains(event->stream))
    device.run_until(*event->stream, event->num_given);
}

bool is_done(event_t event) {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_not_capturing("is_done");
  CUstream_st* const stream = event->stream;
  if (!stream || !device.streams.contains(stream) || stream->num_done >= event->num_given) return true;
  device.run_one(*stream);  // time passes
  return false;
}

double elapsed_ms(event_t from, event_t to) {
  const auto lock = Device::get().lock();
  for (const event_t event : {from, to}) {
    if (!event->timed) throw DeviceError("elapsed_ms: the event is not timed", false);
    const bool pending = event->stream && event->stream->num_done < event->num_given;
    if (!event->recorded || pending) throw DeviceError("elapsed_ms: the event is not done", false);
  }
  return to->time_ms - from->time_ms;
}

void begin_capture(stream_t stream) {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_not_capturing("begin_capture");
  if (!stream) throw DeviceError("begin_capture: the null stream cannot capture", false);
  stream->capture = std::make_unique<Graph>().release();
  stream->capturing_thread = std::this_thread::get_id();
}

graph_t end_capture(stream_t stream) {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_usable("end_capture");
  if (!stream->capture) throw DeviceError("end_capture: the stream does not capture", false);
  const graph_t graph = stream->capture;
  stream->capture = nullptr;
  return graph;
}

void abandon_capture(stream_t stream) noexcept {
  const auto lock = Device::get().lock();
  delete stream->capture;
  stream->capture = nullptr;
}

void launch_graph(graph_t graph, stream_t stream) {
  Device& device = Device::get();
  const auto lock = device.lock();
  for (const Operation& node : graph->nodes) device.enqueue(stream, "launch_graph", node.run, node.launches);
}

std::size_t num_nodes(graph_t graph) { return graph->nodes.size(); }
void destroy_graph(graph_t graph) noexcept { delete graph; }

}  // namespace dev
}  // namespace redline::cuda
