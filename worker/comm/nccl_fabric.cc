#include "worker/comm/nccl_fabric.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "base/log.h"
#include "worker/comm/nccl_state.h"
#include "worker/comm/self_link.h"
#include "worker/comm/single_fabric.h"

namespace fulger {
namespace {

class NcclFabric final : public Fabric {
 public:
  explicit NcclFabric(std::shared_ptr<NcclState> state) : state_(std::move(state)) {}

  int rank() const override { return state_->rank(); }
  int size() const override { return state_->size(); }
  std::string name() const override { return "nccl"; }

  absl::StatusOr<std::unique_ptr<Collective>> Group(std::span<const int> ranks,
                                                    const std::string& name) override {
    const Where where{"group", name, "create"};
    RETURN_IF_ERROR(state_->Check(where));
    RETURN_IF_ERROR(CheckGroupMembers(name, ranks, rank(), size()));
    if (!groups_.insert(name).second) return AlreadyExists("group {}: rank {} made it before", name, rank());
    if (ranks.size() == 1) return MakeSingleCollective(name, state_->failure());
    ASSIGN_OR_RETURN(const size_t handle, state_->Start(where, ranks));
    RETURN_IF_ERROR(state_->Connected(where, handle));
    const auto self = std::find(ranks.begin(), ranks.end(), rank());
    return MakeNcclCollective(state_, handle, {ranks.begin(), ranks.end()},
                              static_cast<int>(self - ranks.begin()), name);
  }

  absl::StatusOr<std::unique_ptr<Link>> Connect(int from, int to, const std::string& name) override {
    RETURN_IF_ERROR(state_->Check(Where{"link", name, "connect"}));
    RETURN_IF_ERROR(CheckLinkEnds(name, from, to, rank(), size()));
    if (!links_.insert(name).second) return AlreadyExists("link {}: rank {} made it before", name, rank());
    if (from == to) return MakeSelfLink(name, state_->failure());
    return MakeNcclLink(state_, from, to, name);
  }

  void Abort(const absl::Status& why) override { state_->Abort(why); }

 private:
  const std::shared_ptr<NcclState> state_;  // shared with the collectives and links made here
  std::set<std::string> groups_, links_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Fabric>> MakeNcclFabric(const NcclSetup& setup, const FabricOptions& options) {
  ASSIGN_OR_RETURN(std::shared_ptr<NcclState> state, NcclState::Make(setup, options));
  LogInfo("transport nccl: NCCL {}, rank {} of {} on GPU {}", state->library().Describe(), setup.rank,
          setup.size, setup.gpu);
  return std::make_unique<NcclFabric>(std::move(state));
}

}  // namespace fulger
