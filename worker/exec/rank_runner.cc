#include "worker/exec/rank_runner.h"

#include "worker/exec/stage_runner.h"
#include "worker/exec/vision_runner.h"

namespace fulger {

absl::StatusOr<std::unique_ptr<RankRunner>> RankRunner::Create(const RankSetup& setup) {
  if (setup.plan.ranks[static_cast<size_t>(setup.rank)].vision_only) return VisionRunner::Make(setup);
  return StageRunner::Make(setup);
}

}  // namespace fulger
