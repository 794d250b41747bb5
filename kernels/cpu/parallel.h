// Persistent compute threads for the CPU kernels. A step runs hundreds of short parallel regions, so threads
// spin briefly for the next one and then sleep in the kernel: an idle process burns no processor time.
//
// Threads: ParallelFor is called by one thread (the device's) at a time. A call from inside a region runs
// inline, and so does everything when the pool has one thread. No call allocates.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace fulger {

class ComputePool {
 public:
  // `threads` counts the calling thread: threads - 1 are started. At least 1.
  explicit ComputePool(int threads);
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(begin, end, worker) over disjoint ranges that cover [0, n), each at most `grain` long, handed
  // out in order to whichever thread is free. `worker` is in [0, threads()): scratch can be indexed by it.
  // Returns when all have finished, with their writes visible. fn must not throw.
  template <typename F>
  void ParallelFor(int64_t n, int64_t grain, F&& fn) {
    if (n <= 0) return;
    grain = std::max<int64_t>(grain, 1);
    if (workers_.empty() || n <= grain || inside_) {
      fn(int64_t{0}, n, current_worker_);
      return;
    }
    using Fn = std::remove_reference_t<F>;
    Run({.call = [](void* f, int64_t begin, int64_t end,
                    int worker) { (*static_cast<Fn*>(f))(begin, end, worker); },
         .fn = const_cast<void*>(static_cast<const void*>(&fn)),
         .n = n,
         .grain = grain});
  }

 private:
  struct Job {
    void (*call)(void* fn, int64_t begin, int64_t end, int worker) = nullptr;
    void* fn = nullptr;
    int64_t n = 0;
    int64_t grain = 1;
  };

  void Run(const Job& job);
  bool RunOneChunk(int worker);
  void WorkerLoop(int worker);

  std::vector<std::thread> workers_;
  Job job_;             // stable while chunks of its generation are unfinished
  int64_t chunks_ = 0;  // of job_
  // (generation << 32) | chunks not yet taken. One word, so a late thread can never take a chunk of a job
  // whose description it does not see.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int64_t> unfinished_{0};
  alignas(64) std::atomic<uint32_t> wake_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};

  static thread_local bool inside_;
  static thread_local int current_worker_;
};

// Threads that the process may use: its affinity mask.
int AvailableThreads();

}  // namespace fulger
