#include "kernels/cpu/parallel.h"

#include <sched.h>

#include <chrono>

#include "base/check.h"

namespace fulger {
namespace {

// Longer than the gap between two regions of a step, much shorter than a human notices.
constexpr auto kSpin = std::chrono::microseconds(40);
constexpr uint64_t kCountMask = 0xffffffffULL;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True when `ready()` became true within kSpin.
template <typename F>
bool SpinFor(F&& ready) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

}  // namespace

thread_local bool ComputePool::inside_ = false;
thread_local int ComputePool::current_worker_ = 0;

int AvailableThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

ComputePool::ComputePool(int threads) {
  FULGER_CHECK(threads >= 1);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
}

ComputePool::~ComputePool() {
  stop_.store(true);
  wake_.fetch_add(1);
  wake_.notify_all();
  for (auto& t : workers_) t.join();
}

bool ComputePool::RunOneChunk(int worker) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  do {
    if ((ticket & kCountMask) == 0) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel));
  // The chunk is ours and unfinished, so job_ cannot change under us.
  const int64_t index = chunks_ - static_cast<int64_t>(ticket & kCountMask);
  const int64_t begin = index * job_.grain;
  job_.call(job_.fn, begin, std::min(job_.n, begin + job_.grain), worker);
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  return true;
}

void ComputePool::Run(const Job& job) {
  job_ = job;
  // Ranges are coarsened rather than overflow the counter.
  while ((job_.n + job_.grain - 1) / job_.grain > static_cast<int64_t>(kCountMask >> 1)) job_.grain *= 2;
  chunks_ = (job_.n + job_.grain - 1) / job_.grain;
  unfinished_.store(chunks_, std::memory_order_relaxed);
  const uint64_t generation = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  // Sequentially consistent with a sleeper's count-then-look: one of the two sees the other.
  ticket_.store((generation << 32) | static_cast<uint64_t>(chunks_), std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    wake_.fetch_add(1);
    wake_.notify_all();
  }
  inside_ = true;
  while (RunOneChunk(0)) {
  }
  inside_ = false;
  auto done = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (SpinFor(done)) return;
  for (int64_t left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire)) {
    unfinished_.wait(left, std::memory_order_acquire);
  }
}

void ComputePool::WorkerLoop(int worker) {
  inside_ = true;
  current_worker_ = worker;
  auto work_or_stop = [this] {
    return (ticket_.load(std::memory_order_seq_cst) & kCountMask) != 0 ||
           stop_.load(std::memory_order_acquire);
  };
  while (!stop_.load(std::memory_order_acquire)) {
    if (RunOneChunk(worker)) continue;
    if (SpinFor(work_or_stop)) continue;
    const uint32_t seen = wake_.load();
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (!work_or_stop()) wake_.wait(seen);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
}

}  // namespace fulger
