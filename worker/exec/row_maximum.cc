#include "worker/exec/row_maximum.h"

#include <algorithm>
#include <memory>
#include <vector>

namespace fulger {

absl::StatusOr<std::function<absl::Status(std::span<float>)>> MakeRowMaximum(const Plan& plan, int rank,
                                                                             Fabric& fabric, Device& device) {
  const std::vector<int> ranks = ExpertGroupRanks(plan, rank);
  if (plan.layout.experts == WeightFormat::kStored || ranks.size() <= 1) {
    return std::function<absl::Status(std::span<float>)>();
  }
  const RankPlan& own = plan.ranks[static_cast<size_t>(rank)];
  // std::function wants what it holds to be copyable.
  ASSIGN_OR_RETURN(std::shared_ptr<Collective> group,
                   fabric.Group(ranks, fmt::format("experts.{}.{}", own.stage, own.expert_group)));
  return std::function<absl::Status(std::span<float>)>([group, &device](std::span<float> maxima) {
    const auto n = static_cast<int64_t>(maxima.size());
    const int64_t members = group->size();
    ASSIGN_OR_RETURN(const Buffer memory,
                     device.Allocate(static_cast<size_t>((members + 1) * n) * sizeof(float)));
    const MutTensorView mine(memory.data(), DType::kF32, {n});
    const MutTensorView all(static_cast<float*>(memory.data()) + n, DType::kF32, {members * n});
    RETURN_IF_ERROR(device.CopyToDevice(device.stream(), maxima.data(), mine.mut_raw(), maxima.size_bytes()));
    RETURN_IF_ERROR(group->AllGather(device.stream(), mine, all));
    std::vector<float> host(static_cast<size_t>(members * n));
    RETURN_IF_ERROR(device.CopyToHost(device.stream(), all.raw(), host.data(), host.size() * sizeof(float)));
    RETURN_IF_ERROR(device.stream().Synchronize());
    for (size_t i = 0; i < host.size(); ++i) {
      float& maximum = maxima[i % maxima.size()];
      maximum = std::max(maximum, host[i]);
    }
    return absl::OkStatus();
  });
}

}  // namespace fulger
