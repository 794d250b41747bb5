// The engine's view of a replica: it submits plans and hears events. coordinator/cluster implements it over
// the Join streams; tests implement it in process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/engine/types.h"
#include "fulger/v1/control.pb.h"
#include "fulger/v1/saved.pb.h"
#include "fulger/v1/step.pb.h"

namespace fulger {

// Of the smallest rank of the replica.
struct ReplicaCapacity {
  int64_t blocks = 0;
  int64_t block_size = 0;
  int64_t slots = 0;
  int64_t max_step_tokens = 0;
  int64_t stages = 1;  // steps worth having in flight
};

// Implemented by the engine; every call is thread-safe and never blocks. Events of an older epoch are
// dropped.
class BackendEvents {
 public:
  virtual ~BackendEvents() = default;
  // The replica can run steps; caches are empty. Called again with a larger epoch after a rebuild.
  virtual void OnUp(uint64_t epoch, const ReplicaCapacity& capacity) = 0;
  // The replica is gone: no step in flight will answer. Running requests wait for the next OnUp and resume.
  virtual void OnDown(const absl::Status& why) = 0;
  virtual void OnResult(std::shared_ptr<const v1::StepResult> result) = 0;
  // The replica has been idle for a while, or has just come up: a probe step should show that it can compute.
  virtual void OnProbeDue(uint64_t epoch) = 0;
  virtual void OnFeaturesReady(uint64_t epoch, const std::string& key, const absl::Status& status) = 0;
  // What each rank that holds layers says of a Save, by rank.
  virtual void OnStatesSaved(uint64_t epoch, std::vector<v1::StatesSaved> ranks) = 0;
  // The state is in the memory of every rank that holds layers, for a plan to restore; or why it is not.
  virtual void OnStateFetched(uint64_t epoch, uint64_t id, const absl::Status& status) = 0;
};

// Called from the engine thread only; never blocks.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void Submit(std::shared_ptr<const v1::StepPlan> plan) = 0;
  // Starts encoding; OnFeaturesReady follows for each. The same key is asked for once while its features are
  // kept. Where the ranks of stage 0 encode, these go through the vision tower in one pass.
  using Pictures = std::vector<std::shared_ptr<const PreparedImage>>;
  virtual void Encode(uint64_t epoch, const Pictures& pictures) = 0;
  // Nobody waits for these any more: OnFeaturesReady brings an error for those whose encoding had not begun.
  virtual void Withdraw(uint64_t epoch, const std::vector<std::string>& keys) = 0;
  virtual void Evict(uint64_t epoch, const std::vector<std::string>& keys) = 0;
  // With no step in flight: what sequences hold goes into files. OnStatesSaved follows, once.
  virtual void Save(uint64_t epoch, const v1::SaveStates& wanted) = 0;
  // OnStateFetched follows, once; a plan restores the state or drops it.
  virtual void Fetch(uint64_t epoch, const v1::SavedState& state) = 0;
};

}  // namespace fulger
