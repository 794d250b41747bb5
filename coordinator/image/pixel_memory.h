// Internal to coordinator/image: memory for whole pictures. Tens of megabytes that are written once cost more
// in page faults and zeroing than in resizing, hence huge pages where the system gives them, and elements
// that begin with whatever is there.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace fulger {

constexpr size_t kHugePage = size_t{2} << 20;

// Advice only: without huge pages everything works, more slowly.
inline void AdviseHugePages(void* memory, size_t bytes) {
  const auto begin = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
  const auto end = (reinterpret_cast<uintptr_t>(memory) + bytes) / kHugePage * kHugePage;
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

template <typename T>
struct PixelAllocator {
  using value_type = T;
  PixelAllocator() = default;
  template <typename U>
  explicit PixelAllocator(const PixelAllocator<U>&) {}

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    void* memory = ::operator new(bytes, Alignment(bytes));
    if (bytes >= kHugePage) AdviseHugePages(memory, bytes);
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t count) { ::operator delete(memory, Alignment(count * sizeof(T))); }
  template <typename U>
  void construct(U* element) {
    ::new (static_cast<void*>(element)) U;  // not U(): stays uninitialised
  }
  template <typename U, typename... Args>
  void construct(U* element, Args&&... args) {
    ::new (static_cast<void*>(element)) U(std::forward<Args>(args)...);
  }
  bool operator==(const PixelAllocator&) const = default;

 private:
  static std::align_val_t Alignment(size_t bytes) {
    return std::align_val_t(bytes >= kHugePage ? kHugePage : 64);
  }
};

using PixelVector = std::vector<uint8_t, PixelAllocator<uint8_t>>;

}  // namespace fulger
