#include "kernels/tensor.h"

#include <sys/mman.h>

#include <new>

namespace redline {

Buffer::Buffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  constexpr std::size_t kHuge = std::size_t{2} << 20;
  const std::size_t alignment = bytes >= kHuge / 2 ? kHuge : 4096;
  if (bytes > SIZE_MAX - 2 * kHuge) throw std::bad_alloc();
  mapping_bytes_ = (bytes + alignment - 1) / alignment * alignment + (alignment > 4096 ? alignment : 0);
  mapping_ = ::mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw std::bad_alloc();
  }
  auto address = reinterpret_cast<std::uintptr_t>(mapping_);
  data_ = reinterpret_cast<std::byte*>((address + alignment - 1) / alignment * alignment);
  if (alignment == kHuge) ::madvise(data_, (bytes + kHuge - 1) / kHuge * kHuge, MADV_HUGEPAGE);
}

Buffer::~Buffer() {
  if (mapping_) ::munmap(mapping_, mapping_bytes_);
}

}  // namespace redline
