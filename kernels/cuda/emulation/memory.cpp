// The device's memory, which is the host's.
#include <cstring>
#include <new>

#include "kernels/cuda/device_emulated.h"
#include "kernels/cuda/emulation/block.h"

namespace redline::cuda::dev {
namespace {

constexpr std::align_val_t kAlignment{256};  // cudaMalloc's

}  // namespace

// As many bytes as asked for and no more, so that ASan sees the first one past the end.
void* malloc_device(std::size_t bytes, const char* name) {
  void* const data = ::operator new(bytes == 0 ? 1 : bytes, kAlignment);
  emulation::register_buffer(data, bytes, name);
  return data;
}

void free_device(void* data) noexcept {
  if (!data) return;
  emulation::unregister_buffer(data);
  ::operator delete(data, kAlignment);
}

void copy_to_device(void* device, const void* host, std::size_t bytes) {
  if (bytes) std::memcpy(device, host, bytes);
  emulation::mark_initialised(device, bytes);
}

void copy_to_host(void* host, const void* device, std::size_t bytes) {
  if (bytes) std::memcpy(host, device, bytes);
}

void poison(void* device, int byte, std::size_t bytes) { std::memset(device, byte, bytes); }

void check_aligned_16(const void* address, const emulation::Location& where) {
  if (reinterpret_cast<std::uintptr_t>(address) & 15) {
    emulation::fail(emulation::text("misaligned 16-byte access at ", emulation::describe(where)));
  }
}

}  // namespace redline::cuda::dev
