#include "kernels/tensor.h"

#include <sys/mman.h>

#include <new>

namespace redline {
namespace {

void unmap(void* memory, std::size_t bytes) { ::munmap(memory, bytes); }

}  // namespace

Buffer::Buffer(std::size_t bytes) : size_(bytes), release_(unmap) {
  if (bytes == 0) return;
  constexpr std::size_t kHuge = std::size_t{2} << 20;
  const std::size_t alignment = bytes >= kHuge / 2 ? kHuge : 4096;
  if (bytes > SIZE_MAX - 2 * kHuge) throw std::bad_alloc();
  memory_bytes_ = (bytes + alignment - 1) / alignment * alignment + (alignment > 4096 ? alignment : 0);
  memory_ = ::mmap(nullptr, memory_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory_ == MAP_FAILED) {
    memory_ = nullptr;
    throw std::bad_alloc();
  }
  auto address = reinterpret_cast<std::uintptr_t>(memory_);
  data_ = reinterpret_cast<std::byte*>((address + alignment - 1) / alignment * alignment);
  if (alignment == kHuge) ::madvise(data_, (bytes + kHuge - 1) / kHuge * kHuge, MADV_HUGEPAGE);
}

}  // namespace redline
