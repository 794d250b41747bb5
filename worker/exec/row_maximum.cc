#include "worker/exec/row_maximum.h"

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

namespace fulger {
namespace {

// Leaves in `maxima` those over all ranks of the group.
absl::Status Reduce(Collective& group, Device& device, std::span<float> maxima) {
  const auto n = static_cast<int64_t>(maxima.size());
  const int64_t members = group.size();
  ASSIGN_OR_RETURN(const Buffer memory,
                   device.Allocate(static_cast<size_t>((members + 1) * n) * sizeof(float)));
  const MutTensorView mine(memory.data(), DType::kF32, {n});
  const MutTensorView all(static_cast<float*>(memory.data()) + n, DType::kF32, {members * n});
  RETURN_IF_ERROR(device.CopyToDevice(device.stream(), maxima.data(), mine.mut_raw(), maxima.size_bytes()));
  RETURN_IF_ERROR(group.AllGather(device.stream(), mine, all));
  std::vector<float> host(static_cast<size_t>(members * n));
  RETURN_IF_ERROR(device.CopyToHost(device.stream(), all.raw(), host.data(), host.size() * sizeof(float)));
  RETURN_IF_ERROR(device.stream().Synchronize());
  for (size_t i = 0; i < host.size(); ++i) {
    float& maximum = maxima[i % maxima.size()];
    maximum = std::max(maximum, host[i]);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RowMaximum> MakeRowMaximum(const Plan& plan, int rank, Fabric& fabric, Device& device) {
  const RankPlan& own = plan.ranks[static_cast<size_t>(rank)];
  std::map<Cut, std::shared_ptr<Collective>> groups;  // std::function wants what it holds to be copyable
  const auto add = [&](Cut cut, WeightFormat format, const std::string& name) -> absl::Status {
    const std::vector<int> ranks = RanksOfColumns(plan, rank, cut);
    if (format == WeightFormat::kStored || ranks.size() <= 1) return absl::OkStatus();
    ASSIGN_OR_RETURN(groups[cut], fabric.Group(ranks, name));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(
      add(Cut::kQueryHeadColumns, plan.layout.projections, fmt::format("projections.{}", own.stage)));
  RETURN_IF_ERROR(add(Cut::kExpertColumns, plan.layout.experts,
                      fmt::format("experts.{}.{}", own.stage, own.expert_group)));
  if (groups.empty()) return RowMaximum();
  return RowMaximum([groups, &device](const TensorSpec& matrix, std::span<float> maxima) {
    const auto group = groups.find(matrix.cut);
    FULGER_CHECK(group != groups.end(), "{}: no ranks share its rows", matrix.name);
    return Reduce(*group->second, device, maxima);
  });
}

}  // namespace fulger
