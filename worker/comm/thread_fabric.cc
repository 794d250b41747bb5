#include "worker/comm/thread_fabric.h"

#include <algorithm>

#include "base/check.h"
#include "worker/comm/self_link.h"
#include "worker/comm/single_fabric.h"
#include "worker/comm/thread_state.h"

namespace fulger {
namespace {

class ThreadFabric final : public Fabric {
 public:
  ThreadFabric(std::shared_ptr<ThreadWorld::State> world, int rank) : world_(std::move(world)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return world_->size; }
  std::string name() const override { return "thread"; }

  absl::StatusOr<std::unique_ptr<Collective>> Group(std::span<const int> ranks,
                                                    const std::string& name) override {
    RETURN_IF_ERROR(world_->failure->Check(Where{"group", name, "create"}));
    RETURN_IF_ERROR(CheckGroupMembers(name, ranks, rank_, world_->size));
    std::lock_guard lock(world_->mu);
    if (!world_->taken.emplace("group " + name, rank_).second) {
      return AlreadyExists("group {}: rank {} made it before", name, rank_);
    }
    std::vector<int> members(ranks.begin(), ranks.end());
    auto& group = world_->groups[name];
    if (group == nullptr) group = std::make_shared<ThreadGroupState>(name, members);
    if (group->ranks != members) {
      return Internal("group {}: rank {} says {}, another member said {}", name, rank_, JoinRanks(members),
                      JoinRanks(group->ranks));
    }
    if (members.size() == 1) return MakeSingleCollective(name, world_->failure);
    const auto self = std::find(members.begin(), members.end(), rank_);
    return MakeThreadCollective(world_, group, static_cast<int>(self - members.begin()));
  }

  absl::StatusOr<std::unique_ptr<Link>> Connect(int from, int to, const std::string& name) override {
    RETURN_IF_ERROR(world_->failure->Check(Where{"link", name, "connect"}));
    RETURN_IF_ERROR(CheckLinkEnds(name, from, to, rank_, world_->size));
    std::lock_guard lock(world_->mu);
    if (!world_->taken.emplace("link " + name, rank_).second) {
      return AlreadyExists("link {}: rank {} made it before", name, rank_);
    }
    auto& link = world_->links[name];
    if (link == nullptr) link = std::make_shared<ThreadLinkState>(from, to);
    if (link->from != from || link->to != to) {
      return Internal("link {}: rank {} says {} -> {}, the other end said {} -> {}", name, rank_, from, to,
                      link->from, link->to);
    }
    if (from == to) return MakeSelfLink(name, world_->failure);
    return MakeThreadLink(world_, link, name, rank_);
  }

  void Abort(const absl::Status& why) override {
    std::lock_guard lock(world_->mu);
    world_->AbortLocked(why);
  }

 private:
  const std::shared_ptr<ThreadWorld::State> world_;
  const int rank_;
};

}  // namespace

ThreadWorld::ThreadWorld(int size, const FabricOptions& options)
    : state_(std::make_shared<State>(size, options)) {
  FULGER_CHECK(size > 0, "world of {} ranks", size);
}
ThreadWorld::~ThreadWorld() = default;

std::unique_ptr<Fabric> ThreadWorld::MakeFabric(int rank) {
  FULGER_CHECK(rank >= 0 && rank < state_->size, "rank {} of {}", rank, state_->size);
  return std::make_unique<ThreadFabric>(state_, rank);
}

void ThreadWorld::Abort(const absl::Status& why) {
  std::lock_guard lock(state_->mu);
  state_->AbortLocked(why);
}

}  // namespace fulger
