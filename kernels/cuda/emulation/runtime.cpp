// The host's calls, emulated: devices and memory.
#include "kernels/cuda/runtime.h"

#include <cstring>
#include <iterator>
#include <new>

#include "kernels/cuda/emulation/block.h"
#include "kernels/cuda/emulation/device.h"

namespace redline::cuda {
namespace emulation {

void Allocations::add(const void* data, std::size_t bytes) {
  sizes_[static_cast<const std::byte*>(data)] = bytes;
  total_bytes_ += bytes;
}

std::size_t Allocations::remove(const void* data) {
  const auto found = sizes_.find(static_cast<const std::byte*>(data));
  if (found == sizes_.end()) throw Error("freed memory that was not allocated, or freed it twice");
  const std::size_t bytes = found->second;
  total_bytes_ -= bytes;
  sizes_.erase(found);
  return bytes;
}

bool Allocations::holds(const void* data, std::size_t bytes) const {
  const auto* const first = static_cast<const std::byte*>(data);
  const auto next = sizes_.upper_bound(first);
  if (next == sizes_.begin()) return bytes == 0;
  const auto& [begin, size] = *std::prev(next);
  return bytes == 0 || first + bytes <= begin + size;
}

bool Allocations::touches(const void* data, std::size_t bytes) const {
  const auto* const first = static_cast<const std::byte*>(data);
  const auto next = sizes_.lower_bound(first + bytes);
  if (next == sizes_.begin()) return false;
  const auto& [begin, size] = *std::prev(next);
  return first < begin + size;
}

namespace {

constexpr std::align_val_t kAlignment{256};
constexpr int kPoison = 0xff;

/// Both ends of a copy must be what the call says that they are.
void check_device_range(const char* call, const void* data, std::size_t bytes) {
  if (Device::get().device_memory.holds(data, bytes)) return;
  throw dev::DeviceError(
      text(call, ": ", bytes, " bytes at ", data, " do not lie in one allocation of the device"), false);
}

void check_host_range(const char* call, const void* data, std::size_t bytes) {
  if (!Device::get().device_memory.touches(data, bytes)) return;
  throw dev::DeviceError(text(call, ": the host's side, ", bytes, " bytes at ", data, ", is device memory"),
                         false);
}

void do_copy(void* to, const void* from, std::size_t bytes) {
  if (bytes) std::memmove(to, from, bytes);
  mark_initialised(to, bytes);
}

/// A copy that involves the host: asynchronous if the host's side is page-locked. What CUDA would read or
/// write at every replay must be.
void copy_host(const char* call, void* to, const void* from, const void* host, std::size_t bytes,
               CUstream_st* stream) {
  Device& device = Device::get();
  const bool pinned = device.pinned_memory.holds(host, bytes);
  if (!pinned && stream && stream->capture) {
    throw dev::DeviceError(text(call, ": captured with host memory that is not page-locked"), false);
  }
  device.enqueue(stream, call, [=] { do_copy(to, from, bytes); });
  if (!pinned && stream) device.run_until(*stream, stream->num_given);
}

}  // namespace
}  // namespace emulation

namespace dev {

using namespace emulation;

OutOfDeviceMemory::OutOfDeviceMemory(std::size_t needed_bytes, std::size_t free_bytes)
    : DeviceError(text("device memory: ", needed_bytes, " bytes needed, ", free_bytes, " free"), false),
      needed_bytes_(needed_bytes),
      free_bytes_(free_bytes) {}

int num_devices() { return 1; }

void use_device(int index) {
  if (index != 0) throw DeviceError(text("use_device: device ", index, " of 1"), false);
}

DeviceProperties device_properties() {
  DeviceProperties properties;
  properties.name = "emulated sm_90";
  properties.compute_major = 9;
  properties.num_sms = config().num_sms;
  properties.memory_bytes = config().device_memory_bytes;
  properties.l2_bytes = std::size_t{1} << 20;
  properties.shared_bytes_per_block = config().shared_memory_limit_bytes;
  properties.pci_bus_id = "emulated";
  return properties;
}

DeviceMemory device_memory() {
  const auto lock = Device::get().lock();
  const std::size_t total = config().device_memory_bytes, used = Device::get().device_memory.total_bytes();
  return {total > used ? total - used : 0, total};
}

int driver_version() { return 0; }
int runtime_version() { return 0; }

// As many bytes as asked for and no more, so that ASan sees the first one past the end.
void* malloc_device(std::size_t bytes, const char* name) {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_not_capturing("malloc_device");
  if (const std::size_t free = dev::device_memory().free_bytes; bytes > free)
    throw OutOfDeviceMemory(bytes, free);
  void* const data = ::operator new(bytes == 0 ? 1 : bytes, kAlignment);
  std::memset(data, kPoison, bytes);
  device.device_memory.add(data, bytes);
  register_buffer(data, bytes, name);
  return data;
}

void free_device(void* data) noexcept {
  if (!data) return;
  Device& device = Device::get();
  const auto lock = device.lock();
  try {
    device.run_all();
  } catch (const std::exception&) {
    // the device is lost: the next call says so
  }
  device.device_memory.remove(data);
  unregister_buffer(data);
  ::operator delete(data, kAlignment);
}

void* malloc_pinned(std::size_t bytes) {
  Device& device = Device::get();
  const auto lock = device.lock();
  device.check_not_capturing("malloc_pinned");
  void* const data = ::operator new(bytes == 0 ? 1 : bytes, kAlignment);
  std::memset(data, kPoison, bytes);
  device.pinned_memory.add(data, bytes);
  return data;
}

void free_pinned(void* data) noexcept {
  if (!data) return;
  Device& device = Device::get();
  const auto lock = device.lock();
  try {
    device.run_all();
  } catch (const std::exception&) {
    // the device is lost: the next call says so
  }
  device.pinned_memory.remove(data);
  ::operator delete(data, kAlignment);
}

void copy_to_device_async(void* device, const void* host, std::size_t bytes, stream_t stream) {
  const auto lock = Device::get().lock();
  check_device_range("copy_to_device", device, bytes);
  check_host_range("copy_to_device", host, bytes);
  copy_host("copy_to_device", device, host, host, bytes, stream);
}

void copy_to_host_async(void* host, const void* device, std::size_t bytes, stream_t stream) {
  const auto lock = Device::get().lock();
  check_device_range("copy_to_host", device, bytes);
  check_host_range("copy_to_host", host, bytes);
  copy_host("copy_to_host", host, device, host, bytes, stream);
}

void copy_on_device_async(void* to, const void* from, std::size_t bytes, stream_t stream) {
  const auto lock = Device::get().lock();
  check_device_range("copy_on_device", to, bytes);
  check_device_range("copy_on_device", from, bytes);
  Device::get().enqueue(stream, "copy_on_device", [=] { do_copy(to, from, bytes); });
}

void fill_async(void* device, int byte, std::size_t bytes, stream_t stream) {
  const auto lock = Device::get().lock();
  check_device_range("fill", device, bytes);
  Device::get().enqueue(stream, "fill", [=] {
    if (bytes) std::memset(device, byte, bytes);
    mark_initialised(device, bytes);
  });
}

void copy_to_device(void* device, const void* host, std::size_t bytes) {
  copy_to_device_async(device, host, bytes, nullptr);
}
void copy_to_host(void* host, const void* device, std::size_t bytes) {
  copy_to_host_async(host, device, bytes, nullptr);
}
void fill(void* device, int byte, std::size_t bytes) { fill_async(device, byte, bytes, nullptr); }
void poison(void* device, int byte, std::size_t bytes) {
  const auto lock = Device::get().lock();
  check_device_range("poison", device, bytes);
  if (bytes) std::memset(device, byte, bytes);
}

}  // namespace dev
}  // namespace redline::cuda
