#include "coordinator/blocks/id_pool.h"

#include <cstddef>
#include <utility>

#include "base/check.h"

namespace fulger {

IdPool::IdPool(std::string name, int64_t size) : name_(std::move(name)), size_(size) {
  FULGER_CHECK(size >= 0 && size <= INT32_MAX, "{} pool: size {}", name_, size);
}

int32_t IdPool::Take() {
  FULGER_CHECK(free() > 0, "{} pool: all {} taken", name_, size_);
  int32_t id = 0;
  if (freed_.empty()) {
    id = static_cast<int32_t>(states_.size());
    states_.push_back(State::kFree);
  } else {
    id = freed_.back();
    freed_.pop_back();
  }
  State& state = states_[static_cast<size_t>(id)];
  FULGER_CHECK(state == State::kFree, "{} {}: owned twice", name_, id);
  state = State::kOwned;
  ++owned_;
  return id;
}

void IdPool::Release(std::span<const int32_t> ids, uint64_t last_step) {
  for (const int32_t id : ids) {
    FULGER_CHECK(id >= 0 && static_cast<size_t>(id) < states_.size(), "{} {}: never taken", name_, id);
    State& state = states_[static_cast<size_t>(id)];
    FULGER_CHECK(state == State::kOwned, "{} {}: released twice", name_, id);
    --owned_;
    state = State::kReleasing;
    ++releasing_;
    if (last_step <= done_) {
      Free(id, State::kReleasing);
    } else {
      waiting_[last_step].push_back(id);
    }
  }
}

void IdPool::StepsDone(uint64_t step) {
  FULGER_CHECK(step >= done_, "{} pool: step {} answered after step {}", name_, step, done_);
  done_ = step;
  while (!waiting_.empty() && waiting_.begin()->first <= step) {
    for (const int32_t id : waiting_.begin()->second) Free(id, State::kReleasing);
    waiting_.erase(waiting_.begin());
  }
}

void IdPool::Free(int32_t id, State expected) {
  State& state = states_[static_cast<size_t>(id)];
  FULGER_CHECK(state == expected, "{} {}: freed twice", name_, id);
  state = State::kFree;
  --releasing_;
  freed_.push_back(id);
}

}  // namespace fulger
