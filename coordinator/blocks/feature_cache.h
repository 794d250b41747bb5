// The index of picture features that the vision stage keeps: which keys exist there, which may be named by a
// plan, which must go to make room. The bytes are the worker's; the decision is ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace fulger {

// A picture that some live sequence still has to run through the model.
struct FeatureNeed {
  std::string key;
  int64_t rows = 0;
  int64_t tiles = 1;
};

struct FeatureCacheLimits {
  int64_t bytes = 0;
  int64_t row_bytes = 1;
  int64_t encoding = 8;  // pictures being encoded at a time
  // Of the pictures that are asked for together, and no others before all of these are there; one with more
  // is alone. 0: each is asked for as soon as it may.
  int64_t pass_tiles = 0;
};

// Thread-compatible (the engine thread). Lives for one epoch.
class FeatureCache {
 public:
  struct Changes {
    std::vector<std::string> evict;     // to be sent first
    std::vector<std::string> withdraw;  // being encoded, and nobody needs them any more
    std::vector<size_t> encode;         // indices into `needs`
  };

  explicit FeatureCache(const FeatureCacheLimits& limits) : limits_(limits) {}

  // Decides what to encode and what to evict. `needs` is ordered by priority (running sequences first, in
  // prompt order); a key may appear more than once. A need is never evicted for a later one, so the first
  // sequence always gets what it needs and the queue cannot lock itself up; a later need may be evicted for
  // an earlier one. Nothing that a step in flight names, or that is being encoded, is evicted. One that is
  // withdrawn counts as being encoded until its answer comes: its features, or that there are none.
  Changes Update(std::span<const FeatureNeed> needs);

  bool Ready(const std::string& key) const;
  // FeaturesReady arrived; false if the key is not being encoded.
  bool Encoded(const std::string& key);
  // Encoding failed, or did not begin because the key was withdrawn: it is forgotten. True if whoever needs
  // it now has asked for it, and so must be told.
  bool Failed(const std::string& key);
  // A plan names the key.
  void UsedBy(const std::string& key, uint64_t step);
  void StepsDone(uint64_t step) { done_ = step; }

  bool Fits(int64_t rows) const { return rows * limits_.row_bytes <= limits_.bytes; }
  int64_t bytes() const { return bytes_; }
  int64_t encoding() const { return encoding_; }
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

 private:
  struct Entry {
    int64_t bytes = 0;
    bool ready = false;
    bool withdrawn = false;
    uint64_t last_step = 0;  // the last plan that names it
    uint64_t used = 0;       // tick of the last use, for LRU
  };
  using Entries = std::map<std::string, Entry>;
  using Ranks = std::map<std::string, size_t>;  // key -> index of the first need

  void Withdraw(const Ranks& ranks, Changes* changes);
  bool MakeRoom(int64_t bytes, size_t rank, const Ranks& ranks, std::vector<std::string>& evicted);
  Entries::iterator Victim(size_t rank, const Ranks& ranks);

  const FeatureCacheLimits limits_;
  Entries entries_;
  uint64_t done_ = 0;
  uint64_t tick_ = 0;
  int64_t bytes_ = 0;
  int64_t encoding_ = 0;
};

}  // namespace fulger
