#include "tests/cuda_emulation/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "tests/cuda_emulation/card.h"

namespace fulger::cuda_emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kZone = 1 << 20;   // that cannot be touched, on either side
constexpr size_t kAlignment = 256;  // of what cudaMalloc gives
constexpr unsigned char kGuard = 0xA5;
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace

void* Memory::Allocate(size_t bytes, Space space) {
  const size_t room = TheCard().memory - std::min(TheCard().memory, TheCard().held);
  if (space == Space::kDevice && (bytes > room || used_ > room - bytes)) return nullptr;
  Allocation a{.bytes = bytes, .space = space};
  if (kSanitized) {
    if (posix_memalign(reinterpret_cast<void**>(&a.data), kAlignment, bytes) != 0) return nullptr;
    a.pages = a.data;
    a.page_bytes = bytes;
  } else {
    const size_t inner = RoundUp(bytes, kPage);
    a.page_bytes = inner + 2 * kZone;
    void* const pages =
        mmap(nullptr, a.page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    a.pages = static_cast<char*>(pages);
    if (mprotect(a.pages + kZone, inner, PROT_READ | PROT_WRITE) != 0) {
      munmap(pages, a.page_bytes);
      return nullptr;
    }
    // As close to the last page's end as the alignment allows.
    a.data = a.pages + kZone + (inner - RoundUp(bytes, kAlignment));
    char* const end = a.pages + kZone + inner;
    std::memset(a.pages + kZone, kGuard, static_cast<size_t>(a.data - (a.pages + kZone)));
    std::memset(a.data + bytes, kGuard, static_cast<size_t>(end - (a.data + bytes)));
  }
  std::memset(a.data, 0xFF, bytes);
  if (space == Space::kDevice) used_ += bytes;
  live_[a.pages] = a;
  if (working_ == 0 || !kSanitized) Permit(a, false);
  return a.data;
}

bool Memory::Free(void* p, Space space) {
  const Allocation* const found = Before(p);
  if (found == nullptr || found->data != p || found->space != space) return false;
  const Allocation a = *found;
  Permit(a, true);
  live_.erase(a.pages);
  if (space == Space::kDevice) used_ -= a.bytes;
  if (kSanitized) {
    std::free(a.data);
  } else {
    munmap(a.pages, a.page_bytes);
  }
  return true;
}

void Memory::Begin() {
  if (working_++ > 0 || !kSanitized) return;
  for (const auto& [pages, a] : live_) Permit(a, true);
}
void Memory::End() {
  if (--working_ > 0) return;
  if (kSanitized) {
    for (const auto& [pages, a] : live_) Permit(a, false);
  }
  for (const char* pages : in_use_) {
    const auto found = live_.find(pages);
    if (found == live_.end()) continue;
    if (broken_.empty()) broken_ = CheckSurroundings(found->second);
    Permit(found->second, false);
  }
  in_use_.clear();
}
bool Memory::Use(const void* p) {
  const Allocation* const a = Near(p);
  const char* const at = static_cast<const char*>(p);
  if (kSanitized || working_ == 0 || a == nullptr || a->space != Space::kDevice || at < a->pages + kZone ||
      at >= a->pages + a->page_bytes - kZone) {
    return false;
  }
  Permit(*a, true);
  in_use_.push_back(a->pages);
  return true;
}
void Memory::Permit(const Allocation& a, bool access) {
  if (a.space != Space::kDevice) return;
#if defined(__SANITIZE_ADDRESS__)
  // Marking takes time in proportion; the large ones are the workspace and the caches.
  if (a.bytes > (1 << 20)) return;
  if (access) {
    __asan_unpoison_memory_region(a.data, a.bytes);
  } else {
    __asan_poison_memory_region(a.data, a.bytes);
  }
#else
  const int rights = access ? PROT_READ | PROT_WRITE : PROT_NONE;
  if (mprotect(a.pages + kZone, a.page_bytes - 2 * kZone, rights) != 0) std::abort();
#endif
}

const Allocation* Memory::Before(const void* p) const {
  auto next = live_.upper_bound(static_cast<const char*>(p));
  return next == live_.begin() ? nullptr : &std::prev(next)->second;
}

const Allocation* Memory::Find(const void* p, size_t bytes) const {
  const Allocation* const a = Before(p);
  const char* const from = static_cast<const char*>(p);
  if (a == nullptr || from < a->data || from > a->data + a->bytes) return nullptr;
  return bytes <= static_cast<size_t>(a->data + a->bytes - from) ? a : nullptr;
}

const Allocation* Memory::Near(const void* p) const {
  const Allocation* const a = Before(p);
  return a != nullptr && static_cast<const char*>(p) <= a->pages + a->page_bytes ? a : nullptr;
}

std::string Memory::Check() { return std::exchange(broken_, {}); }

std::string Memory::CheckSurroundings(const Allocation& a) {
  if (kSanitized) return {};
  const auto broken = [&](const char* from, const char* to) -> const char* {
    for (; from < to; ++from) {
      if (static_cast<unsigned char>(*from) != kGuard) return from;
    }
    return nullptr;
  };
  const char* at = broken(a.pages + kZone, a.data);
  if (at == nullptr) at = broken(a.data + a.bytes, a.pages + a.page_bytes - kZone);
  if (at == nullptr) return {};
  const std::string where = std::to_string(at - a.data);
  // Said once.
  std::memset(a.pages + kZone, kGuard, static_cast<size_t>(a.data - (a.pages + kZone)));
  std::memset(a.data + a.bytes, kGuard,
              static_cast<size_t>(a.pages + a.page_bytes - kZone - (a.data + a.bytes)));
  return "wrote outside of an allocation of " + std::to_string(a.bytes) + " bytes, at byte " + where;
}

std::string Memory::Describe(const void* p) const {
  const Allocation* const a = Near(p);
  if (a == nullptr) return "an address that is not near to any allocation";
  return "byte " + std::to_string(static_cast<const char*>(p) - a->data) + " of an allocation of " +
         std::to_string(a->bytes) + " bytes";
}

bool IsHostAddress(const Memory& memory, const void* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  // Where Linux puts a program's heap, and its libraries, maps and stacks.
  const uintptr_t top = address >> 40;
  if (top != 0x55 && top != 0x56 && top != 0x7e && top != 0x7f) return false;
  if (memory.Near(p) != nullptr) return false;
  // Numbers and padding may look like an address; nothing is there then.
  return msync(reinterpret_cast<void*>(address / kPage * kPage), 1, MS_ASYNC) == 0;
}

}  // namespace fulger::cuda_emulation
