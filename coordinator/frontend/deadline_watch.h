// Ends requests whose time is up.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"

namespace fulger {

// One thread, which sleeps until the next deadline. Thread-safe.
class DeadlineWatch {
 public:
  // `cancel` ends a request by its id; called on the watch's thread.
  explicit DeadlineWatch(std::function<void(const std::string& id)> cancel);
  ~DeadlineWatch();
  DeadlineWatch(const DeadlineWatch&) = delete;
  DeadlineWatch& operator=(const DeadlineWatch&) = delete;

  // Of one request; its end is the end of the watch over it. Must not outlive the DeadlineWatch's destructor
  // call from another thread than the one that runs it.
  class Entry;
  std::unique_ptr<Entry> Watch(TimePoint deadline, std::string id);

 private:
  using Key = std::pair<TimePoint, uint64_t>;
  struct Shared {
    std::mutex mu;
    std::map<Key, std::pair<std::string, Entry*>> entries;  // by deadline
  };
  void Run();

  const std::function<void(const std::string& id)> cancel_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::condition_variable changed_;  // with shared_->mu
  uint64_t numbers_ = 0;
  bool stopping_ = false;
  std::thread thread_;  // last
};

class DeadlineWatch::Entry {
 public:
  Entry(std::shared_ptr<Shared> shared, Key key) : shared_(std::move(shared)), key_(key) {}
  ~Entry() {
    std::lock_guard lock(shared_->mu);
    shared_->entries.erase(key_);
  }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;
  bool expired() const { return expired_.load(); }

 private:
  friend class DeadlineWatch;
  const std::shared_ptr<Shared> shared_;
  const Key key_;
  std::atomic<bool> expired_{false};
};

}  // namespace fulger
