// A fixed pool for work that may block or take long (image decoding, tokenising): never for compute kernels,
// which have their own persistent threads (kernels/cpu/parallel.h).
#pragma once

#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"

namespace fulger {

class ThreadPool {
 public:
  explicit ThreadPool(int threads, size_t queue_capacity = 4096) : queue_(queue_capacity) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] {
        while (auto task = queue_.Pop()) (*task)();
      });
    }
  }
  ~ThreadPool() {
    queue_.Close();
    for (auto& t : threads_) t.join();
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // False when the queue is full: the caller refuses the request instead of waiting.
  bool TryRun(std::function<void()> task) { return queue_.TryPush(std::move(task)); }

 private:
  BoundedQueue<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace fulger
