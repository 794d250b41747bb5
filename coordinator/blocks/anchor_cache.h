// Anchors: the prefix cache. A lightning state cannot be cut back to an earlier position, so at chosen
// positions a copy of it is kept in a slot of its own, together with the KV blocks up to there; a later
// request with the same beginning continues from the deepest one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "coordinator/blocks/id_pool.h"
#include "coordinator/blocks/prefix.h"
#include "coordinator/blocks/prefix_tree.h"

namespace fulger {

struct AnchorLimits {
  int64_t anchors = 0;                // slots that they may take; 0: off
  int64_t memory = int64_t{1} << 20;  // symbols of prefixes known, those of lost anchors included
};

// How much an anchor is worth when room is needed.
enum class AnchorValue : uint8_t {
  kInterval,  // one of many along a long prompt, not used yet: goes first
  kBorder,    // the end of a message, of a picture or of a turn; or used before
};

struct Anchor {
  PrefixTree::Node* node = nullptr;
  int64_t position = 0;  // the state is that after positions [0, position)
  int32_t slot = -1;
  std::vector<int32_t> blocks;  // covering [0, position); the last one may be filled in part
  std::vector<ImageRun> images;
  AnchorValue value = AnchorValue::kBorder;
  uint64_t used = 0;       // tick
  uint64_t last_step = 0;  // the last plan that names the slot
};

// Keeps blocks in `blocks` and owns slots in `slots`; both must outlive it. Thread-compatible (the engine
// thread), lives for one epoch like the pools: anchors of a dead epoch are gone with their bytes.
class AnchorCache {
 public:
  AnchorCache(const AnchorLimits& limits, IdPool* blocks, IdPool* slots)
      : limits_(limits), blocks_(blocks), slots_(slots), tree_(limits.memory) {}

  struct Match {
    const Anchor* anchor = nullptr;  // the deepest usable; valid while version() is the same
    int64_t position = 0;            // its; 0: none
    int64_t matched = 0;             // leading positions whose content is known here
    int64_t lost = 0;                // deepest position within them whose anchor was evicted; 0: none
    int64_t promised = 0;  // deepest position within them that a running sequence will save; 0: none
  };
  // Anchors at positions up to `limit` of a sequence that begins with `symbols`, whose pictures are `images`.
  Match Find(std::span<const Symbol> symbols, std::span<const ImageRun> images, int64_t limit) const;
  // The anchor is copied from by step `step`.
  void Use(const Anchor& anchor, uint64_t step);

  // A running sequence will save one after `symbols`: others that would use it may wait. Ends with Withdraw.
  PrefixTree::Node* Promise(std::span<const Symbol> symbols);
  void Withdraw(PrefixTree::Node* node);

  bool Has(std::span<const Symbol> symbols) const;
  // Whether one more of this value can be had; evicts for it where needed.
  bool MakeRoom(AnchorValue value);
  // The place of an anchor that comes later, for sure.
  void Reserve() { ++reserved_; }
  void Unreserve() { --reserved_; }
  // After MakeRoom, and not when Has. Takes over the slot, which step `step` wrote; keeps the blocks.
  void Insert(std::span<const Symbol> symbols, std::span<const ImageRun> images,
              std::span<const int32_t> blocks, int32_t slot, AnchorValue value, uint64_t step);
  // The least valuable, least recently used one goes. False: there is none.
  bool EvictOne();

  bool enabled() const { return limits_.anchors > 0; }
  int64_t size() const { return static_cast<int64_t>(anchors_.size()); }
  uint64_t evictions() const { return evictions_; }
  uint64_t version() const { return version_; }  // changes with every answer that Find could give

 private:
  using Order = std::pair<AnchorValue, uint64_t>;  // value, tick: the first is the next to go

  const AnchorLimits limits_;
  IdPool* const blocks_;
  IdPool* const slots_;
  PrefixTree tree_;
  std::map<Order, std::unique_ptr<Anchor>> anchors_;
  int64_t reserved_ = 0;
  uint64_t tick_ = 0;
  uint64_t version_ = 1;
  uint64_t evictions_ = 0;
};

}  // namespace fulger
