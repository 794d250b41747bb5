// Grow-only scratch memory of the CPU ops: the first step of a size allocates, its repetitions do not.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "base/check.h"

namespace fulger {

class Scratch {
 public:
  // At least n elements of T, 64-byte aligned, uninitialised; valid until the next call.
  template <typename T>
  T* Get(int64_t n) {
    const size_t bytes = static_cast<size_t>(n > 0 ? n : 1) * sizeof(T);
    if (bytes > bytes_) Grow(bytes);
    return static_cast<T*>(data_.get());
  }
  size_t bytes() const { return bytes_; }

 private:
  void Grow(size_t bytes) {
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t alignment = bytes >= kHugePage ? kHugePage : 64;
    bytes = (bytes + bytes / 4 + alignment - 1) / alignment * alignment;
    data_.reset();
    void* p = nullptr;
    FULGER_CHECK(posix_memalign(&p, alignment, bytes) == 0, "no memory for {} bytes of scratch", bytes);
    data_.reset(p);
    // Advice only: activations are read in strides, and every small page would be looked up anew.
    if (alignment == kHugePage) (void)madvise(p, bytes, MADV_HUGEPAGE);
    bytes_ = bytes;
  }

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> data_;
  size_t bytes_ = 0;
};

}  // namespace fulger
