// Which pictures go through the vision tower together.
//
// A vision rank takes what waits, in the order of arrival, as far as a batch of its tower goes: whoever comes
// while a pass runs shares the next one. The ranks of a stage encode together and must agree, so there the
// coordinator says it (PictureTiles.more).
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "model/cost/rank_memory.h"
#include "worker/vision/feature_store.h"

namespace fulger {

// The executor's thread.
class PictureQueue {
 public:
  explicit PictureQueue(bool vision_rank) : vision_rank_(vision_rank) {}

  void Add(Picture picture) { waiting_.push_back(std::move(picture)); }
  // True if the picture waited here: it will be in no pass.
  bool Withdraw(const std::string& key) {
    if (!vision_rank_) return false;  // the stage's other ranks are not told
    return std::erase_if(waiting_, [&](const Picture& p) { return p->key == key; }) > 0;
  }
  // A pass may start.
  bool ready() const { return !waiting_.empty() && (vision_rank_ || !waiting_.back()->more); }
  // The pictures of the next pass; never none. Only when ready.
  std::vector<Picture> NextPass() {
    std::vector<Picture> pass;
    int64_t tiles = 0;
    while (!waiting_.empty()) {
      tiles += waiting_.front()->tiles;
      if (vision_rank_ && !pass.empty() && tiles > kTilesPerBatch) break;
      pass.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    return pass;
  }

 private:
  const bool vision_rank_;
  std::deque<Picture> waiting_;
};

}  // namespace fulger
