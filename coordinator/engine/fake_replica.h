// Test support: a replica with a toy model, exact and deterministic. Every position's state is a hash of all
// tokens before it, kept where real workers keep theirs (a slot for the running state, blocks for what each
// position wrote), so that a wrong slot, block, position, feature or fed-back token changes or refutes it.
// The next token is a function of state, seed and position.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "coordinator/engine/backend.h"
#include "coordinator/engine/types.h"
#include "fulger/v1/step.pb.h"

namespace fulger {

constexpr int32_t kToyVocabulary = 61;
// A prompt with this id makes the row that ends it fail, as NaN would.
constexpr int32_t kPoisonId = 1000000;

struct ToyAnswer {
  std::vector<int32_t> tokens;  // without the stop id
  FinishReason reason = FinishReason::kLength;
  int32_t stop_id = -1;
};
// The whole request, one token after the other, with no batching, caches or steps. `max_length` as the
// engine bounds it.
ToyAnswer ToyReference(const EngineRequest& request, int64_t max_length);

class FakeReplica {
 public:
  explicit FakeReplica(const ReplicaCapacity& capacity) : capacity_(capacity) {}

  // Runs the plan and checks it against everything before. Steps not yet Answered count as in flight.
  v1::StepResult Run(const v1::StepPlan& plan);
  void Answered(uint64_t step);
  void FeaturesReady(const std::string& key, int64_t rows);
  void Evict(const std::string& key);
  // What a slot and blocks hold, to be kept and to be had by another replica.
  struct Kept;
  std::shared_ptr<const Kept> Keep(int32_t slot, const std::vector<int32_t>& blocks) const;
  void Fetched(uint64_t id, std::shared_ptr<const Kept> kept) { fetched_[id] = std::move(kept); }
  size_t fetched() const { return fetched_.size(); }
  // What the plans did wrong, in words; empty: nothing.
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  struct State {
    std::vector<int32_t> ids;  // known, then sampled
    int64_t prompt_count = 0;
    v1::SamplingParams sampling;
    int32_t slot = -1;
    std::vector<int32_t> blocks;
    std::vector<uint64_t> states;  // that it had after each position, or found in the blocks of an anchor
    uint64_t sampled_by = 0;
    bool dead = false;
  };
  struct Cell {  // what one position wrote into its block: the state after it
    uint64_t hash = 0;
    int64_t position = -1;
  };
  struct SlotState {
    uint64_t hash = 0;
    int64_t positions = 0;
    bool fresh = false;  // zeroed or copied into, for a sequence to come
  };
  struct Named {  // by a step in flight
    uint64_t step = 0;
    std::set<int32_t> blocks, slots;
    std::set<std::string> features;
  };

  void Expect(bool ok, const std::string& what);
  void Operate(const v1::StepPlan& plan);
  void Announce(const v1::StepPlan& plan);
  void Restore(const v1::StepPlan& plan);
  void RunRow(const v1::StepPlan& plan, const v1::Row& row, v1::StepResult* result);
  uint64_t Absorb(const v1::StepPlan& plan, const v1::Row& row, State* s);
  Cell& CellOf(const State& s, int64_t position);
  void FindAnchored(int64_t position, State* s);
  void CheckCache(uint64_t id, const State& s, int64_t position);
  void Sample(const v1::Row& row, uint64_t hash, State* s, uint64_t step, v1::StepResult* result);

  const ReplicaCapacity capacity_;
  std::map<uint64_t, State> sequences_;
  std::set<uint64_t> retired_;
  std::map<uint64_t, std::string> masks_;  // announced -> bits
  std::map<int32_t, uint64_t> slot_owner_;
  std::map<int32_t, std::vector<Cell>> cells_;
  std::map<int32_t, SlotState> slots_;
  std::map<std::string, int64_t> features_;  // key -> rows
  std::deque<Named> in_flight_;
  std::map<uint64_t, std::shared_ptr<const Kept>> fetched_;
  uint64_t step_ = 0;
  std::vector<std::string> violations_;
};

struct FakeReplica::Kept {
  SlotState slot;
  std::vector<std::vector<Cell>> blocks;
};

}  // namespace fulger
