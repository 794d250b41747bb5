// Ids of things whose bytes live on the workers: KV blocks and lightning slots, one space for all ranks of a
// replica. Breaking the rules below is our own bug, so it is a CHECK, not a Status.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace fulger {

// An id is
//   free;
//   owned: by one sequence or, where a prefix is shared, by several;
//   releasing: no longer owned, but a step in flight still names it;
//   kept: neither, but an anchor keeps its content for later. It counts as available: the anchor can be
//     evicted when somebody needs the id.
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
  // One more owner of ids that are not free.
  void Own(std::span<const int32_t> ids);
  // An owner gives them back. Without another owner they become kept or free when every step up to
  // `last_step` (the last one in which this owner names them) has answered; at once if that is already so.
  void Release(std::span<const int32_t> ids, uint64_t last_step);
  // An anchor keeps them (they are not free), or stops keeping them.
  void Keep(std::span<const int32_t> ids);
  void Unkeep(std::span<const int32_t> ids);
  // Every step up to `step` has answered.
  void StepsDone(uint64_t step);

  int64_t size() const { return size_; }
  int64_t owned() const { return owned_; }
  int64_t kept() const { return kept_; }
  int64_t releasing() const { return releasing_; }  // free or kept once the steps in flight have answered
  int64_t free() const { return size_ - owned_ - releasing_ - kept_; }
  bool is_kept(int32_t id) const { return At(id).kept(); }

 private:
  struct Entry {
    int32_t owners = 0;
    int32_t keepers = 0;
    bool releasing = false;
    uint64_t last_step = 0;

    bool kept() const { return owners == 0 && !releasing && keepers > 0; }
    bool free() const { return owners == 0 && !releasing && keepers == 0; }
  };
  const Entry& At(int32_t id) const;
  Entry& At(int32_t id) { return const_cast<Entry&>(std::as_const(*this).At(id)); }
  void Settle(int32_t id, Entry& entry);

  const std::string name_;
  const int64_t size_;
  std::vector<Entry> entries_;  // of the ids ever taken
  std::vector<int32_t> freed_;
  std::map<uint64_t, std::vector<int32_t>> waiting_;  // by last step; may name ids that are owned again
  uint64_t done_ = 0;
  int64_t owned_ = 0;
  int64_t kept_ = 0;
  int64_t releasing_ = 0;
};

}  // namespace fulger
