// The memory that cudaMalloc and cudaHostAlloc give. Filled with 0xFF: NaN as float32 and as bfloat16. A
// megabyte that cannot be touched lies before and behind each allocation, and what is left of its own pages
// is watched; under AddressSanitizer an allocation is one of malloc's, with the sanitizer's zones around it.
//
// Memory of the device is shut to the host's code: a load or a store by it ends the program, as it would on a
// machine with a GPU. While the device works an allocation is opened at its first use, by the handler of that
// fault.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace fulger::cuda_emulation {

enum class Space { kDevice, kPinned };

struct Allocation {
  char* data = nullptr;
  size_t bytes = 0;
  char* pages = nullptr;  // with what surrounds `data`
  size_t page_bytes = 0;
  Space space = Space::kDevice;
};

class Memory {
 public:
  // Null where the device holds no more.
  void* Allocate(size_t bytes, Space space);
  // False for what is no live allocation of that space.
  bool Free(void* p, Space space);
  // The allocation that holds [p, p + bytes), else null.
  const Allocation* Find(const void* p, size_t bytes) const;
  // As Find, for a pointer that may lie in what surrounds an allocation too (one past its end).
  const Allocation* Near(const void* p) const;
  // The device works; calls nest.
  void Begin();
  void End();
  // For the handler of a fault: true if the device works and now may use the allocation around p.
  bool Use(const void* p);
  // Empty, or which allocation's surroundings were written to since the last call.
  std::string Check();
  // Where an address lies, for messages.
  std::string Describe(const void* p) const;
  size_t used() const { return used_; }

 private:
  const Allocation* Before(const void* p) const;
  static void Permit(const Allocation& a, bool access);
  static std::string CheckSurroundings(const Allocation& a);

  std::map<const char*, Allocation> live_;  // by `pages`
  std::vector<const char*> in_use_;         // keys of `live_`
  size_t used_ = 0;
  int working_ = 0;
  std::string broken_;
};

// What a kernel cannot read: memory of the host that is not of this registry.
bool IsHostAddress(const Memory& memory, const void* p);

}  // namespace fulger::cuda_emulation
