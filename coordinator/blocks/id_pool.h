// Ids of things whose bytes live on the workers: KV blocks and lightning slots, one space for all ranks of a
// replica. An id is free, owned by exactly one sequence, or released and waiting for the steps in flight that
// still name it. Breaking that is our own bug, so it is a CHECK, not a Status.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace fulger {

// Thread-compatible (the engine thread). A pool lives for one epoch: with a new epoch comes a new pool.
class IdPool {
 public:
  // Ids 0 .. size - 1, given out lowest first while fresh, most recently freed first later. Memory grows with
  // the ids in use, not with `size` (a replica without softmax layers reports INT32_MAX blocks).
  IdPool(std::string name, int64_t size);
  IdPool(const IdPool&) = delete;
  IdPool& operator=(const IdPool&) = delete;

  // Only when free() > 0; the caller owns the id until Release.
  int32_t Take();
  // Gives owned ids back. They become free when every step up to `last_step` (the last one that names them)
  // has answered; at once if that is already so.
  void Release(std::span<const int32_t> ids, uint64_t last_step);
  // Every step up to `step` has answered.
  void StepsDone(uint64_t step);

  int64_t size() const { return size_; }
  int64_t owned() const { return owned_; }
  int64_t releasing() const { return releasing_; }  // free again once the steps in flight have answered
  int64_t free() const { return size_ - owned_ - releasing_; }

 private:
  enum class State : uint8_t { kFree, kOwned, kReleasing };
  void Free(int32_t id, State expected);

  const std::string name_;
  const int64_t size_;
  std::vector<State> states_;  // of the ids ever taken
  std::vector<int32_t> freed_;
  std::map<uint64_t, std::vector<int32_t>> waiting_;  // by last step
  uint64_t done_ = 0;
  int64_t owned_ = 0;
  int64_t releasing_ = 0;
};

}  // namespace fulger
