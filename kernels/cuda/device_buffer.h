// Device memory that owns itself, for tests.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/cuda/runtime.h"

namespace redline::cuda::dev {

/// `size` elements of device memory, every byte set to `poison`: NaN as floats, -1 as integers, unless chosen
/// otherwise. `name` appears in the emulation's reports. Copies are the null stream's: synchronise others
/// first.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t size, int poison_byte = 0xff, const char* name = "buffer")
      : data_(static_cast<T*>(malloc_device(size * sizeof(T), name))), size_(size) {
    poison(data_, poison_byte, size * sizeof(T));
  }
  explicit Buffer(const std::vector<T>& values, const char* name = "buffer")
      : Buffer(values.size(), 0xff, name) {
    upload(values);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { free_device(data_); }

  T* get() { return data_; }
  const T* get() const { return data_; }
  std::size_t size() const { return size_; }

  void upload(const std::vector<T>& values) { copy_to_device(data_, values.data(), size_ * sizeof(T)); }
  std::vector<T> download() const {
    std::vector<T> values(size_);
    copy_to_host(values.data(), data_, size_ * sizeof(T));
    return values;
  }

 private:
  T* data_;
  std::size_t size_;
};

}  // namespace redline::cuda::dev
