// A language-model rank: embedding and features (first stage), its decoder layers, sampling and feedback
// (last stage).
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "worker/cache/kv_cache.h"
#include "worker/cache/lightning_states.h"
#include "worker/exec/batch.h"
#include "worker/exec/links.h"
#include "worker/exec/output_head.h"
#include "worker/exec/rank_runner.h"
#include "worker/exec/sequence_table.h"
#include "worker/exec/state_keeper.h"
#include "worker/layers/decoder_stack.h"
#include "worker/vision/feature_store.h"

namespace fulger {

class StageRunner final : public RankRunner {
 public:
  static absl::StatusOr<std::unique_ptr<RankRunner>> Make(const RankSetup& setup);

  absl::StatusOr<v1::StepResult> Run(const v1::StepPlan& plan) override;
  absl::StatusOr<EncodedPictures> Encode(std::span<const Picture> pictures) override;
  void Evict(const std::string& key) override;
  v1::StatesSaved SaveStates(const v1::SaveStates& wanted, const std::string& path) override;
  absl::Status FetchState(const v1::SavedState& state, const std::string& path) override;
  StepTiming last_timing() const override { return timing_; }
  std::vector<std::pair<std::string, int64_t>> MemoryBytes() const override;

 private:
  // The sequences whose tokens a past step sampled, in the order of the feedback message.
  struct PendingFeedback {
    uint64_t step = 0;
    std::vector<uint64_t> sequences;
  };

  explicit StageRunner(const RankSetup& setup)
      : setup_(setup), rank_(setup.plan.ranks[static_cast<size_t>(setup.rank)]) {}
  absl::Status Initialise();
  absl::Status InitialiseHead(const WeightLookup& weights);
  absl::StatusOr<std::vector<int32_t>> VocabularyMask(const TensorView& embedding);
  ExecContext Context();

  absl::Status RunOperations(const v1::StepPlan& plan);
  absl::Status RestoreStates(const v1::StepPlan& plan);
  absl::StatusOr<v1::StepResult> RunRows(const v1::StepPlan& plan, Batch& batch);
  // First stage: token ids (waiting for feedback where a token was sampled by an earlier step) and dead rows.
  absl::Status CollectIds(const v1::StepPlan& plan, const Batch& batch, std::vector<int32_t>& ids,
                          std::vector<int32_t>& status);
  absl::Status Embed(const std::vector<int32_t>& ids, const MutTensorView& h);
  absl::Status PlaceFeatures(const v1::StepPlan& plan, const Batch& batch, const MutTensorView& h);
  absl::StatusOr<TensorView> FetchFeatures(const v1::FeatureRows& rows);
  // The status travels with the stream: a later stage must know dead rows, and which layer went bad first.
  absl::Status ReceiveHidden(const MutTensorView& h, std::vector<int32_t>& status);
  absl::Status SendHidden(const MutTensorView& h, const TensorView& health);
  absl::Status ReceiveFeedback();
  void ApplyFeedback(const PendingFeedback& pending, const std::vector<int32_t>& ids);

  RankSetup setup_;
  const RankPlan& rank_;
  RankLinks links_;
  std::unique_ptr<Collective> stage_;
  std::optional<KvCache> kv_;
  std::optional<LightningStates> states_;
  std::optional<Arena> arena_;
  std::optional<DecoderStack> stack_;
  TensorView embedding_;            // first stage
  std::optional<OutputHead> head_;  // last stage
  std::optional<VisionTower> tower_;
  std::optional<FeatureStore> features_;

  SequenceTable sequences_;
  std::optional<StateKeeper> keeper_;
  uint64_t last_step_ = 0;
  std::deque<PendingFeedback> pending_feedback_;  // first stage
  StepTiming timing_;
};

}  // namespace fulger
