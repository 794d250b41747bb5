// A vision rank: encodes pictures when told, and in step order sends the rows that a plan names to stage 0.
#pragma once

#include <memory>
#include <optional>

#include "worker/exec/links.h"
#include "worker/exec/rank_runner.h"
#include "worker/vision/feature_store.h"
#include "worker/vision/vision_tower.h"

namespace fulger {

class VisionRunner final : public RankRunner {
 public:
  static absl::StatusOr<std::unique_ptr<RankRunner>> Make(const RankSetup& setup);

  absl::StatusOr<v1::StepResult> Run(const v1::StepPlan& plan) override;
  absl::StatusOr<EncodedPictures> Encode(std::span<const Picture> pictures) override;
  void Evict(const std::string& key) override { features_->Evict(key); }
  v1::StatesSaved SaveStates(const v1::SaveStates& /*wanted*/, const std::string& /*path*/) override {
    return {};
  }
  absl::Status FetchState(const v1::SavedState& /*state*/, const std::string& /*path*/) override {
    return Internal("a vision rank has no states of sequences");
  }
  StepTiming last_timing() const override { return {}; }
  std::vector<std::pair<std::string, int64_t>> MemoryBytes() const override {
    return {{"arena", static_cast<int64_t>(arena_->capacity())}};
  }

 private:
  explicit VisionRunner(const RankSetup& setup) : setup_(setup) {}

  RankSetup setup_;
  int vision_index_ = 0;
  RankLinks links_;
  std::unique_ptr<Collective> alone_;  // pictures are not spread over vision ranks: each key has one owner
  std::optional<Arena> arena_;
  std::optional<VisionTower> tower_;
  std::optional<FeatureStore> features_;
};

}  // namespace fulger
