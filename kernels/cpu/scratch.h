// Grow-only scratch memory of the CPU ops: the first step of a size allocates, its repetitions do not.
#pragma once

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
    bytes = (bytes + bytes / 4 + 63) / 64 * 64;
    data_.reset();
    void* p = nullptr;
    FULGER_CHECK(posix_memalign(&p, 64, bytes) == 0, "no memory for {} bytes of scratch", bytes);
    data_.reset(p);
    bytes_ = bytes;
  }

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> data_;
  size_t bytes_ = 0;
};

}  // namespace fulger
