#include "model/shards/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace fulger {
namespace {

constexpr auto kHeartbeat = std::chrono::milliseconds(500);

}  // namespace

absl::Status RunOnThreads(int threads, size_t count, const std::function<absl::Status(size_t)>& task,
                          const std::function<absl::Status()>& heartbeat) {
  std::mutex mu;
  std::condition_variable ended;
  absl::Status first;  // guarded by mu, and so is running
  size_t running = std::clamp<size_t>(count, 1, static_cast<size_t>(std::max(1, threads)));
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> pool;
  for (size_t t = running; t > 0; --t) {
    pool.emplace_back([&] {
      absl::Status status;
      while (status.ok() && !stop) {
        const size_t i = next++;
        if (i >= count) break;
        status = task(i);
      }
      std::lock_guard lock(mu);
      if (!status.ok()) stop = true;
      if (first.ok()) first = std::move(status);
      --running;
      ended.notify_all();
    });
  }
  std::unique_lock lock(mu);
  while (!ended.wait_for(lock, kHeartbeat, [&] { return running == 0; })) {
    if (stop) continue;
    lock.unlock();
    absl::Status status = heartbeat();
    lock.lock();
    if (!status.ok()) stop = true;
    if (first.ok()) first = std::move(status);
  }
  lock.unlock();
  for (std::thread& thread : pool) thread.join();
  return first.ok() ? heartbeat() : first;
}

}  // namespace fulger
