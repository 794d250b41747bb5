#include "worker/exec/vision_runner.h"

#include <array>
#include <utility>

namespace fulger {

absl::StatusOr<std::unique_ptr<RankRunner>> VisionRunner::Make(const RankSetup& setup) {
  auto runner = std::unique_ptr<VisionRunner>(new VisionRunner(setup));
  const Layout& layout = setup.plan.layout;
  runner->vision_index_ = setup.rank - layout.pp * layout.tp;
  const std::array<int, 1> self = {setup.rank};
  ASSIGN_OR_RETURN(runner->alone_, setup.fabric.Group(self, fmt::format("vision.{}", setup.rank)));
  ASSIGN_OR_RETURN(runner->links_, ConnectLinks(setup.plan, setup.rank, setup.fabric));
  const RankPlan& own = setup.plan.ranks[static_cast<size_t>(setup.rank)];
  ASSIGN_OR_RETURN(runner->arena_,
                   Arena::Make(setup.device, static_cast<size_t>(ArenaBytes(setup.config, layout, own, {}))));
  const WeightLookup weights(setup.table, setup.weights);
  ASSIGN_OR_RETURN(runner->tower_, VisionTower::Make(setup.config, weights, *setup.processor));
  runner->features_.emplace(setup.config, *setup.processor, &*runner->tower_);
  return runner;
}

absl::StatusOr<EncodedPictures> VisionRunner::Encode(std::span<const Picture> pictures) {
  arena_->Reset();
  ExecContext ctx{.device = setup_.device,
                  .stream = setup_.device.stream(),
                  .ops = setup_.device.ops(),
                  .arena = *arena_,
                  .stage = *alone_,
                  .activity = setup_.activity};
  auto encoded = features_->Encode(ctx, pictures);
  setup_.activity.Set("idle");
  return encoded;
}

absl::StatusOr<v1::StepResult> VisionRunner::Run(const v1::StepPlan& plan) {
  for (const v1::FeatureRows& rows : plan.features()) {
    if (VisionRankOf(rows.key(), setup_.plan.layout.vision) != vision_index_) continue;
    ASSIGN_OR_RETURN(const TensorView part, features_->Rows(rows.key(), rows.first(), rows.count()));
    setup_.activity.Set("sending picture features");
    RETURN_IF_ERROR(links_.features[0]->Send(setup_.device.stream(), part));
  }
  setup_.activity.Set("idle");
  v1::StepResult result;
  result.set_replica(plan.replica());
  result.set_epoch(plan.epoch());
  result.set_step(plan.step());
  return result;
}

}  // namespace fulger
