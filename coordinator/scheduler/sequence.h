// One request as the planner sees it, from its arrival to its end, through any number of admissions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/blocks/anchor_cache.h"
#include "coordinator/blocks/anchor_positions.h"
#include "coordinator/blocks/cache_report.h"
#include "coordinator/blocks/prefix.h"
#include "coordinator/scheduler/token_mask.h"
#include "fulger/v1/saved.pb.h"
#include "fulger/v1/step.pb.h"

namespace fulger {

// A priority step counts as much as this many requests that arrive later. So whoever waits is overtaken by a
// bounded number of requests, and nobody starves.
constexpr int64_t kArrivalsPerPriority = 256;

// A copy of a running sequence's state, written by a plan. An anchor once the rows that led there have
// answered: before that, nobody knows whether they were sound, nor (in an answer) which tokens they were.
struct StateCopy {
  int64_t position = 0;  // the state is that after positions [0, position)
  int32_t slot = -1;
  uint64_t step = 0;  // whose plan copies it
  AnchorValue value = AnchorValue::kBorder;
  PrefixTree::Node* promise = nullptr;  // of the anchor; in an answer there is none
};

// Owned by the engine, touched by the engine thread only.
struct Sequence {
  // Set before StepPlanner::Add.
  void* owner = nullptr;     // the engine's own record of the request
  std::string request;       // its id as the client knows it; for the workers' errors and logs
  uint64_t order = 0;        // arrival; unique, smaller is older
  int32_t priority = 0;      // smaller is sooner
  std::vector<int32_t> ids;  // the prompt, then every token sampled so far
  int64_t prompt_count = 0;
  int64_t max_length = 0;  // prompt and completion together
  v1::SamplingParams sampling;
  std::vector<ImageRun> images;         // ascending
  bool use_anchors = true;              // continue from anchors, and leave some
  std::vector<AnchorPosition> anchors;  // to be saved in the prompt, ascending
  // Of an answer that must follow a grammar: which tokens the one at `mask_position` may be. The engine sets
  // the mask of the next position when the token before is known and the mask is made.
  bool constrained = false;
  int64_t mask_position = -1;
  std::shared_ptr<const TokenMask> mask;

  CacheReport cache;  // of the first admission
  bool admitted_before = false;

  // What another process saved of it: it is admitted once the ranks have it (`fetch`), and goes on from
  // there. Null: nothing, or that is done.
  std::shared_ptr<const v1::SavedState> saved;
  enum class Fetch : uint8_t { kWanted, kAsked, kReady };
  Fetch fetch = Fetch::kWanted;

  // The current admission; the planner's. `id` is new with every admission, so that a late answer can never
  // be taken for a newer one.
  enum class Phase : uint8_t { kIdle, kWaiting, kRunning };
  Phase phase = Phase::kIdle;
  uint64_t id = 0;
  int64_t known = 0;    // ids told to the workers
  int64_t planned = 0;  // positions in plans
  uint64_t sampled_by = 0;
  uint64_t last_step = 0;
  int64_t answered = 0;   // positions whose rows have answered
  int64_t in_flight = 0;  // rows in steps that have not answered
  std::vector<int32_t> blocks;
  int64_t common = 0;  // leading blocks that an anchor, and so other sequences, may hold as well
  int32_t slot = -1;
  int32_t state_from = -1;  // being admitted: the anchor's slot, and its last block if to be copied
  int32_t copy_from = -1;
  int64_t saved_at = 0;  // displaced: slot and blocks hold this position, and become an anchor

  // The prefix cache's view of it, while in a planner.
  std::vector<Symbol> symbols;
  AnchorCache::Match match;  // waiting; of anchors' version match_version
  uint64_t match_version = 0;
  std::vector<PrefixTree::Node*> promises;  // of the anchors not copied yet, the next one last
  std::vector<StateCopy> copies;            // ascending

  // The replica that held it is gone.
  void Forget() {
    phase = Phase::kIdle;
    id = sampled_by = last_step = match_version = 0;
    known = planned = answered = in_flight = common = saved_at = 0;
    blocks.clear();
    slot = state_from = copy_from = -1;
    match = {};
    promises.clear();
    fetch = Fetch::kWanted;
    copies.clear();
  }
  // The ranks have its saved state, or are reading it.
  bool fetching() const { return saved != nullptr && fetch != Fetch::kWanted; }
  // Whether the token at `position` may be drawn.
  bool MayDraw(int64_t position) const { return !constrained || mask_position == position; }
  int64_t rank() const { return static_cast<int64_t>(order) + priority * kArrivalsPerPriority; }
  int64_t generated() const { return static_cast<int64_t>(ids.size()) - prompt_count; }
};

// The one order of all sequences.
inline bool Before(const Sequence* a, const Sequence* b) {
  return a->rank() != b->rank() ? a->rank() < b->rank() : a->order < b->order;
}

}  // namespace fulger
