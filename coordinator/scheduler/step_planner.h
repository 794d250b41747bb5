// Turns decisions into StepPlans for one replica during one epoch: keeps the queue and the running set, gives
// out slots, blocks, anchors and sequence ids, and remembers which steps are in flight and whom they name. It
// knows no sinks, no threads and no time.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "coordinator/blocks/anchor_cache.h"
#include "coordinator/blocks/feature_cache.h"
#include "coordinator/blocks/id_pool.h"
#include "coordinator/scheduler/schedule.h"
#include "coordinator/scheduler/sequence.h"
#include "fulger/v1/step.pb.h"

namespace fulger {

struct PlannerConfig {
  std::string replica;
  uint64_t epoch = 0;
  int64_t blocks = 0;
  int64_t block_size = 1;
  int64_t slots = 0;
  int64_t step_tokens = 0;
  int64_t max_running = 0;
  int64_t stages = 1;
  int64_t steps_in_flight = 2;  // for one stage; each further stage adds one
  FeatureCacheLimits features;
  AnchorLimits anchors;  // with max_running at most `slots`
  // Where answers leave anchors while they grow: at multiples of the interval, min_gap or more behind the
  // prompt.
  AnchorRules answers{.interval = 0};
};

// Thread-compatible (the engine thread).
class StepPlanner {
 public:
  // A row of a step that has answered.
  struct AnsweredRow {
    uint64_t id = 0;
    int64_t end = 0;               // positions run by then
    bool sampled = false;          // its sequence expects a token or an error, unless it has ended
    Sequence* sequence = nullptr;  // null: it had ended before
  };

  explicit StepPlanner(const PlannerConfig& config);

  // The longest prompt and completion together that this replica can hold for one sequence.
  int64_t MaxLength() const { return config_.blocks * config_.block_size + 1; }

  // Queues a sequence whose ids fit: ids.size() < max_length <= MaxLength(). It must stay alive until Remove,
  // or until the planner is gone. Sequences go in order of rank.
  void Add(Sequence* sequence);
  // The sequence ended. What it holds becomes free when no step in flight names it; or, if its state is that
  // after exactly its ids [0, intact) and later rows are dead, an anchor. 0: it holds no such state.
  // `failed`: the last answer may have been an error; what was copied of its state is worth nothing.
  void Remove(Sequence* sequence, int64_t intact = 0, bool failed = false);

  // The next step; null when enough steps are in flight or nothing can run now.
  std::shared_ptr<const v1::StepPlan> Next();
  // A step that only asks every rank to show that it can compute. Call with no step in flight.
  std::shared_ptr<const v1::StepPlan> Probe();
  // Step `step` has answered; its rows, in the plan's order. nullopt if it is not the oldest in flight (steps
  // answer in order).
  std::optional<std::vector<AnsweredRow>> Answered(uint64_t step);
  // How many positions of a sequence, not added yet, this replica need not run: it has an anchor there, or is
  // about to.
  int64_t CachedPositions(Sequence* sequence) const;
  // By the id that plans and results use; null if it has ended.
  Sequence* Find(uint64_t id) const;

  // Pictures to encode (together), to evict and to withdraw now, and how the encoding went.
  struct FeatureChanges {
    std::vector<std::string> evict, withdraw;
    struct Encode {
      Sequence* sequence = nullptr;
      size_t image = 0;  // index into sequence->images
    };
    std::vector<Encode> encode;
  };
  FeatureChanges UpdateFeatures();
  FeatureCache& features() { return features_; }
  const FeatureCache& features() const { return features_; }

  // Saved states that the ranks should fetch now: a few at a time, those of the first that wait.
  std::vector<std::shared_ptr<const v1::SavedState>> StatesToFetch();
  // One that was fetched, or cannot be: then its sequence is computed. The sequence; null if it has ended.
  const Sequence* StateFetched(uint64_t id, bool ok);
  // With no step in flight: what slot and blocks of sequences hold, after exactly so many positions.
  struct HeldState {
    Sequence* sequence = nullptr;
    int64_t position = 0;
    std::vector<int32_t> blocks;  // up to there
  };
  std::vector<HeldState> HeldStates() const;

  const IdPool& blocks() const { return blocks_; }
  const IdPool& slots() const { return slots_; }
  const AnchorCache& anchors() const { return anchors_; }
  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t in_flight() const { return static_cast<int64_t>(in_flight_.size()); }
  uint64_t preemptions() const { return preemptions_; }

 private:
  struct Step {
    uint64_t number = 0;
    std::vector<AnsweredRow> rows;
  };

  struct Chosen {
    Sequence* sequence = nullptr;
    PlannedRow row;
  };

  std::vector<Chosen> Choose();
  bool Awaits(const Sequence& s, int64_t from) const;
  SequenceView View(const Sequence& s) const;
  SequenceView ViewWaiting(Sequence* s);
  int64_t Available(const Sequence& s, int64_t from, int64_t known) const;
  ScheduleLimits Limits() const;
  void ApplyPreemptions(const Decision& decision);
  void Preempt(Sequence* s, bool save);
  void GiveBack(Sequence* s);
  int32_t TakeBlock();
  void HoldAnchor(Sequence* s);
  void Admit(Sequence* s, v1::StepPlan* plan);
  void PromiseAnchors(Sequence* s);
  void WithdrawPromises(Sequence* s);
  void SaveAnchor(Sequence* s, v1::StepPlan* plan);
  void SaveAnswer(Sequence* s, v1::StepPlan* plan);
  void CopyState(Sequence* s, AnchorValue value, PrefixTree::Node* promise, v1::StepPlan* plan);
  void KeepCopies(Sequence* s);
  void DropCopies(Sequence* s);
  void InsertAnchor(Sequence* s, int64_t position);
  void SaveDisplaced();
  void ViewSaved(Sequence* s, SequenceView* view);
  void Restore(Sequence* s, v1::StepPlan* plan);
  static int64_t FirstToRun(const Sequence& s);
  void AddRow(Sequence* s, const PlannedRow& row, v1::StepPlan* plan);
  uint64_t NameMask(const Sequence& s, v1::StepPlan* plan);
  void AddFeatureRows(const Sequence& s, const PlannedRow& row, v1::StepPlan* plan);
  void Enqueue(Sequence* s);
  std::shared_ptr<v1::StepPlan> NewPlan();  // the next step, in flight from now on

  const PlannerConfig config_;
  IdPool blocks_;
  IdPool slots_;
  AnchorCache anchors_;
  FeatureCache features_;
  std::vector<Sequence*> running_;        // in order of rank
  std::vector<Sequence*> waiting_;        // in order of rank
  std::vector<Sequence*> displaced_;      // of the waiting: those whose state is to be saved
  int64_t saved_waiting_ = 0;             // of the waiting: those that continue from a saved state
  std::vector<uint64_t> dropped_states_;  // fetched for nothing: to be told in the next plan
  int64_t admitting_ = 0;                 // slots that the decision being carried out still needs
  std::unordered_map<uint64_t, Sequence*> by_id_;
  std::deque<Step> in_flight_;
  std::vector<uint64_t> retired_;                 // to be told in the next plan
  std::unordered_map<uint64_t, uint64_t> masks_;  // announced -> the last step that names it
  uint64_t next_step_ = 1;
  uint64_t next_id_ = 1;
  uint64_t preemptions_ = 0;
};

}  // namespace fulger
