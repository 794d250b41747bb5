#include "tests/cuda_emulation/grid.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace fulger::cuda {

constexpr size_t kGuardBytes = 4096;
alignas(1024) float4
    dynamic_shared[(cuda_emulation::kSharedBytesOptIn + kGuardBytes) / sizeof(float4)];  // launch_kernel.cuh

}  // namespace fulger::cuda

namespace fulger::cuda_emulation {
namespace {

namespace context = boost::context::detail;
using cuda::dynamic_shared;
using cuda::kGuardBytes;

constexpr size_t kStackBytes = 128 << 10;
constexpr size_t kPage = 4096;
constexpr unsigned char kGuard = 0xA5;

enum class At { kReady, kBarrier, kWarp, kEnd };

struct Fiber {
  context::fcontext_t context = nullptr;
  char* stack = nullptr;  // lowest address
  void* fake_stack = nullptr;
  uint3 index{};
  At at = At::kReady;
  Site site;
  // At::kWarp
  const char* name = nullptr;
  unsigned mask = 0;
  void* lane = nullptr;
  Meet meet = nullptr;
};

std::string ToString(const uint3& v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}
std::string ToString(const Site& site) {
  return std::string(site.file_name()) + ":" + std::to_string(site.line());
}

// Writes what AddressSanitizer would not let us write: what lies between the variables is its own.
__attribute__((no_sanitize("address", "undefined"))) void Fill(char* p, size_t bytes, unsigned char value) {
  volatile char* const to = p;
  size_t i = 0;
  uint64_t word;
  std::memset(&word, value, sizeof(word));
  for (; i < bytes && reinterpret_cast<uintptr_t>(p + i) % sizeof(word) != 0; ++i)
    to[i] = static_cast<char>(value);
  for (; i + sizeof(word) <= bytes; i += sizeof(word)) *reinterpret_cast<volatile uint64_t*>(p + i) = word;
  for (; i < bytes; ++i) to[i] = static_cast<char>(value);
}

bool Same(const Site& a, const Site& b) {
  return a.line() == b.line() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

class Order {
 public:
  explicit Order(const std::string& order)
      : random_(order.starts_with("random:")), backward_(order == "backward") {
    if (random_) {
      rng_.seed(std::strtoull(order.c_str() + 7, nullptr, 10));
    } else if (!backward_ && order != "forward") {
      std::fprintf(stderr, "FULGER_EMULATION_ORDER=%s: expected forward, backward or random:SEED\n",
                   order.c_str());
      std::abort();
    }
  }
  bool random() const { return random_; }
  // 0 .. n-1 in the order to use now.
  const std::vector<unsigned>& Of(size_t n) {
    order_.resize(n);
    std::iota(order_.begin(), order_.end(), 0U);
    if (backward_) std::reverse(order_.begin(), order_.end());
    if (random_) std::shuffle(order_.begin(), order_.end(), rng_);
    return order_;
  }

 private:
  bool random_;
  bool backward_;
  std::minstd_rand rng_;
  std::vector<unsigned> order_;
};

class Runner {
 public:
  Runner() {
    const char* order = std::getenv("FULGER_EMULATION_ORDER");
    UseOrder(order == nullptr ? "forward" : order);
    if (const char* drop = std::getenv("FULGER_EMULATION_DROP")) {
      const std::string place = drop;
      drop_file_ = place.substr(0, place.find(':'));
      drop_line_ = static_cast<unsigned>(std::strtoul(place.c_str() + drop_file_.size() + 1, nullptr, 10));
    }
  }
  bool Dropped(const Site& site) const {
    return drop_line_ == site.line() && std::string_view(site.file_name()).ends_with(drop_file_);
  }
  void UseOrder(const std::string& order) {
    for (Order* o : {&order_blocks_, &order_warps_, &order_lanes_}) *o = Order(order);
  }

  std::string RunGrid(const KernelCall& call) {
    call_ = &call;
    gridDim = call.grid;
    blockDim = call.block;
    const size_t threads = static_cast<size_t>(blockDim.x) * blockDim.y * blockDim.z;
    MakeFibers(threads);
    used_ = threads;
    const size_t blocks = static_cast<size_t>(gridDim.x) * gridDim.y * gridDim.z;
    std::vector<unsigned> order = order_blocks_.Of(blocks);
    std::string error;
    for (const unsigned block : order) {
      blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y};
      error = RunBlock();
      if (!error.empty()) break;
    }
    if (!error.empty()) {
      error = Place() + ": " + error;
#if defined(__SANITIZE_ADDRESS__)
      // What the threads that never ended have left on their stacks.
      for (size_t i = 0; i < used_; ++i) __asan_unpoison_memory_region(fibers_[i].stack, kStackBytes);
#endif
    }
    call_ = nullptr;
    return error;
  }

  std::string Position() const {
    return call_ == nullptr ? std::string() : Place() + ", thread " + ToString(threadIdx);
  }

  void Wait(At at, const Site& site) {
    Fiber& fiber = fibers_[current_];
    fiber.at = at;
    fiber.site = site;
    Leave(&fiber.fake_stack);
    Entered(fiber.fake_stack);
  }
  Fiber& current() { return fibers_[current_]; }

 private:
  std::string Place() const {
    return "kernel " + FunctionName(call_->function) + ", block " + ToString(blockIdx) + " of (" +
           std::to_string(gridDim.x) + ", " + std::to_string(gridDim.y) + ", " + std::to_string(gridDim.z) +
           ")";
  }

  void MakeFibers(size_t n) {
    while (fibers_.size() < n) {
      // The lowest page faults when a stack overflows.
      void* const memory = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) {
        std::perror("CUDA emulation: stack of a thread");
        std::abort();
      }
      Fiber fiber;
      fiber.stack = static_cast<char*>(memory) + kPage;
      fibers_.push_back(fiber);
    }
  }

  // Switching, with the words that AddressSanitizer wants to hear about it.
  static void Run(context::transfer_t from) {
    runner->scheduler_ = from.fctx;
    runner->Entered(nullptr);
    runner->call_->thread();
    runner->fibers_[runner->current_].at = At::kEnd;
    runner->Leave(nullptr);
    std::abort();  // an ended fiber is never resumed
  }
  void Entered([[maybe_unused]] void* fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
  }
  void Leave([[maybe_unused]] void** fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake_stack, scheduler_stack_, scheduler_stack_bytes_);
#endif
    scheduler_ = context::jump_fcontext(scheduler_, nullptr).fctx;
  }
  void Resume(size_t i) {
    Fiber& fiber = fibers_[i];
    current_ = i;
    threadIdx = fiber.index;
#if defined(__SANITIZE_ADDRESS__)
    void* own = nullptr;
    __sanitizer_start_switch_fiber(&own, fiber.stack, kStackBytes);
#endif
    fiber.context = context::jump_fcontext(fiber.context, nullptr).fctx;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
  }

  void Prepare() {
    Fill(call_->static_shared.data(), call_->static_shared.size(), 0xFF);
    char* const dynamic = reinterpret_cast<char*>(dynamic_shared);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(dynamic, sizeof(dynamic_shared));
#endif
    std::memset(dynamic, 0xFF, call_->dynamic_shared);
    std::memset(dynamic + call_->dynamic_shared, kGuard, kGuardBytes);
#if defined(__SANITIZE_ADDRESS__)
    const size_t whole = (call_->dynamic_shared + 7) / 8 * 8;
    __asan_poison_memory_region(dynamic + whole, sizeof(dynamic_shared) - whole);
#endif
    for (size_t i = 0; i < used_; ++i) {
      Fiber& fiber = fibers_[i];
      fiber.context = context::make_fcontext(fiber.stack + kStackBytes, kStackBytes, &Run);
      fiber.at = At::kReady;
      const auto linear = static_cast<unsigned>(i);
      fiber.index = {linear % blockDim.x, linear / blockDim.x % blockDim.y, linear / blockDim.x / blockDim.y};
    }
  }

  std::string RunBlock() {
    Prepare();
    error_.clear();
    const size_t warps = (used_ + kWarp - 1) / kWarp;
    while (true) {
      bool moved = false;
      const std::vector<unsigned> order = order_warps_.Of(warps);
      for (const unsigned warp : order) {
        while (StepWarp(warp)) {
          moved = true;
          if (order_warps_.random()) break;
        }
        if (!error_.empty()) return error_;
      }
      if (moved) continue;
      if (All([](const Fiber& f) { return f.at == At::kEnd; })) break;
      const Site& site = fibers_[0].site;
      if (!All([&](const Fiber& f) { return f.at == At::kBarrier && Same(f.site, site); })) {
        return Stuck();
      }
      for (size_t i = 0; i < used_; ++i) fibers_[i].at = At::kReady;
    }
    return GuardBroken();
  }

  template <typename F>
  bool All(F holds) const {
    return std::all_of(fibers_.begin(), fibers_.begin() + static_cast<std::ptrdiff_t>(used_), holds);
  }

  // Runs the lanes that can run, then the collective that they have all come to.
  bool StepWarp(size_t warp) {
    const size_t first = warp * kWarp;
    const size_t lanes = std::min<size_t>(kWarp, used_ - first);
    bool moved = false;
    for (const unsigned lane : order_lanes_.Of(lanes)) {
      if (fibers_[first + lane].at != At::kReady) continue;
      Resume(first + lane);
      moved = true;
    }
    for (size_t lane = 0; lane < lanes; ++lane) {
      const Fiber& asks = fibers_[first + lane];
      if (asks.at != At::kWarp || !Complete(asks, first, lanes)) continue;
      std::array<void*, kWarp> handed{};
      const unsigned mask = asks.mask;
      for (size_t i = 0; i < lanes; ++i) {
        if ((mask >> i & 1U) == 0) continue;
        handed[i] = fibers_[first + i].lane;  // null for a barrier
        fibers_[first + i].at = At::kReady;
      }
      if (const char* wrong = asks.meet(handed.data(), mask)) {
        error_ =
            "warp " + std::to_string(warp) + ", " + asks.name + " at " + ToString(asks.site) + ": " + wrong;
        return false;
      }
      moved = true;
    }
    return moved;
  }

  bool Complete(const Fiber& asks, size_t first, size_t lanes) const {
    for (size_t i = 0; i < kWarp; ++i) {
      if ((asks.mask >> i & 1U) == 0) continue;
      if (i >= lanes) return false;
      const Fiber& f = fibers_[first + i];
      if (f.at != At::kWarp || f.mask != asks.mask || f.meet != asks.meet || !Same(f.site, asks.site)) {
        return false;
      }
    }
    return true;
  }

  // Who waits where.
  std::string Stuck() const {
    std::map<std::string, std::vector<size_t>> places;
    for (size_t i = 0; i < used_; ++i) {
      const Fiber& f = fibers_[i];
      std::string place = "returned";
      if (f.at == At::kBarrier) place = "wait at __syncthreads, " + ToString(f.site);
      if (f.at == At::kWarp) {
        char mask[16];
        std::snprintf(mask, sizeof(mask), "0x%08x", f.mask);
        place = std::string("wait at ") + f.name + " of lanes " + mask + ", " + ToString(f.site);
      }
      places[place].push_back(i);
    }
    std::string text = "its " + std::to_string(used_) + " threads do not come to the same place:";
    for (const auto& [place, threads] : places) {
      text += "\n  threads ";
      for (size_t i = 0; i < threads.size();) {
        size_t end = i;
        while (end + 1 < threads.size() && threads[end + 1] == threads[end] + 1) ++end;
        text += (i == 0 ? "" : ", ") + std::to_string(threads[i]);
        if (end > i) text += "-" + std::to_string(threads[end]);
        i = end + 1;
      }
      text += " " + place;
    }
    return text;
  }

  std::string GuardBroken() const {
#if !defined(__SANITIZE_ADDRESS__)
    const auto* guard = reinterpret_cast<const unsigned char*>(dynamic_shared) + call_->dynamic_shared;
    for (size_t i = 0; i < kGuardBytes; ++i) {
      if (guard[i] == kGuard) continue;
      return "wrote " + std::to_string(i) + " bytes behind its " + std::to_string(call_->dynamic_shared) +
             " bytes of dynamic shared memory";
    }
#endif
    return {};
  }

  static Runner* runner;  // the only one
  friend Runner& TheRunner();

  const KernelCall* call_ = nullptr;
  std::vector<Fiber> fibers_;
  size_t used_ = 0;     // threads of a block
  size_t current_ = 0;  // the fiber that runs
  context::fcontext_t scheduler_ = nullptr;
  [[maybe_unused]] const void* scheduler_stack_ = nullptr;
  [[maybe_unused]] size_t scheduler_stack_bytes_ = 0;
  Order order_blocks_{"forward"}, order_warps_{"forward"}, order_lanes_{"forward"};
  std::string error_;
  std::string drop_file_;  // FULGER_EMULATION_DROP
  unsigned drop_line_ = 0;
};

Runner* Runner::runner = nullptr;

Runner& TheRunner() {
  // Never destroyed: a program may end in the middle of a grid.
  if (Runner::runner == nullptr) Runner::runner = new Runner();
  return *Runner::runner;
}

}  // namespace

std::string RunGrid(const KernelCall& call) { return TheRunner().RunGrid(call); }
void UseOrder(const std::string& order) { TheRunner().UseOrder(order); }
std::string Position() { return TheRunner().Position(); }
void BlockBarrier(const Site& site) {
  if (!TheRunner().Dropped(site)) TheRunner().Wait(At::kBarrier, site);
}

void WarpMeet(const char* name, unsigned mask, void* lane, Meet meet, const Site& site) {
  if (lane == nullptr && TheRunner().Dropped(site)) return;
  Fiber& fiber = TheRunner().current();
  fiber.name = name;
  fiber.mask = mask;
  fiber.lane = lane;
  fiber.meet = meet;
  TheRunner().Wait(At::kWarp, site);
}

std::string FunctionName(const void* function) {
  static auto* const known = new std::map<const void*, std::string>();
  const auto found = known->find(function);
  if (found != known->end()) return found->second;
  std::string name = "?";
  Dl_info info;
  if (dladdr(function, &info) != 0) {
    char command[512];
    std::snprintf(
        command, sizeof(command), "addr2line -C -f -e '%s' 0x%zx 2>/dev/null", info.dli_fname,
        static_cast<size_t>(static_cast<const char*>(function) - static_cast<const char*>(info.dli_fbase)));
    if (FILE* const pipe = popen(command, "r")) {
      char line[512];
      if (std::fgets(line, sizeof(line), pipe) != nullptr) {
        name = line;
        while (!name.empty() && name.back() == '\n') name.pop_back();
      }
      static_cast<void>(pclose(pipe));
    }
  }
  return (*known)[function] = name;
}

}  // namespace fulger::cuda_emulation
