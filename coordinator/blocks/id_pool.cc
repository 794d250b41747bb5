#include "coordinator/blocks/id_pool.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/check.h"

namespace fulger {

IdPool::IdPool(std::string name, int64_t size) : name_(std::move(name)), size_(size) {
  FULGER_CHECK(size >= 0 && size <= INT32_MAX, "{} pool: size {}", name_, size);
}

const IdPool::Entry& IdPool::At(int32_t id) const {
  FULGER_CHECK(id >= 0 && static_cast<size_t>(id) < entries_.size(), "{} {}: never taken", name_, id);
  return entries_[static_cast<size_t>(id)];
}

int32_t IdPool::Take() {
  FULGER_CHECK(free() > 0, "{} pool: all {} taken", name_, size_);
  int32_t id = 0;
  if (freed_.empty()) {
    id = static_cast<int32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    id = freed_.back();
    freed_.pop_back();
  }
  Entry& entry = At(id);
  FULGER_CHECK(entry.free(), "{} {}: owned twice", name_, id);
  entry.owners = 1;
  ++owned_;
  return id;
}

void IdPool::Own(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    Entry& entry = At(id);
    FULGER_CHECK(!entry.free(), "{} {}: shared while free", name_, id);
    if (entry.owners++ > 0) continue;
    --(entry.releasing ? releasing_ : kept_);
    entry.releasing = false;
    ++owned_;
  }
}

void IdPool::Release(std::span<const int32_t> ids, uint64_t last_step) {
  for (const int32_t id : ids) {
    Entry& entry = At(id);
    FULGER_CHECK(entry.owners > 0, "{} {}: released twice", name_, id);
    entry.last_step = std::max(entry.last_step, last_step);
    if (--entry.owners > 0) continue;
    --owned_;
    if (entry.last_step <= done_) {
      Settle(id, entry);
    } else {
      entry.releasing = true;
      ++releasing_;
      waiting_[entry.last_step].push_back(id);
    }
  }
}

void IdPool::Keep(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    Entry& entry = At(id);
    FULGER_CHECK(!entry.free(), "{} {}: kept while free", name_, id);
    ++entry.keepers;
  }
}

void IdPool::Unkeep(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    Entry& entry = At(id);
    FULGER_CHECK(entry.keepers > 0, "{} {}: nobody keeps it", name_, id);
    const bool was_kept = entry.kept();
    if (--entry.keepers > 0 || !was_kept) continue;
    --kept_;
    freed_.push_back(id);
  }
}

void IdPool::Settle(int32_t id, Entry& entry) {
  entry.releasing = false;
  if (entry.keepers > 0) {
    ++kept_;
  } else {
    freed_.push_back(id);
  }
}

void IdPool::StepsDone(uint64_t step) {
  FULGER_CHECK(step >= done_, "{} pool: step {} answered after step {}", name_, step, done_);
  done_ = step;
  while (!waiting_.empty() && waiting_.begin()->first <= step) {
    for (const int32_t id : waiting_.begin()->second) {
      Entry& entry = At(id);
      // Owned again, and perhaps given back by a later step since.
      if (!entry.releasing || entry.last_step > step) continue;
      --releasing_;
      Settle(id, entry);
    }
    waiting_.erase(waiting_.begin());
  }
}

}  // namespace fulger
