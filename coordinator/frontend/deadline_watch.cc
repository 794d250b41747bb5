#include "coordinator/frontend/deadline_watch.h"

namespace fulger {

DeadlineWatch::DeadlineWatch(std::function<void(const std::string& id)> cancel)
    : cancel_(std::move(cancel)), thread_([this] { Run(); }) {}

DeadlineWatch::~DeadlineWatch() {
  {
    std::lock_guard lock(shared_->mu);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::unique_ptr<DeadlineWatch::Entry> DeadlineWatch::Watch(TimePoint deadline, std::string id) {
  std::lock_guard lock(shared_->mu);
  const Key key(deadline, ++numbers_);
  auto entry = std::make_unique<Entry>(shared_, key);
  shared_->entries.emplace(key, std::pair(std::move(id), entry.get()));
  changed_.notify_all();
  return entry;
}

void DeadlineWatch::Run() {
  std::unique_lock lock(shared_->mu);
  auto& entries = shared_->entries;
  while (!stopping_) {
    if (entries.empty()) {
      changed_.wait(lock);
      continue;
    }
    const auto first = entries.begin();
    const TimePoint until = first->first.first;
    if (until > std::chrono::steady_clock::now()) {
      changed_.wait_until(lock, until);  // the entry may go meanwhile
      continue;
    }
    const std::string id = std::move(first->second.first);
    first->second.second->expired_ = true;
    entries.erase(first);
    lock.unlock();
    cancel_(id);
    lock.lock();
  }
}

}  // namespace fulger
