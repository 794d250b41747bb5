#include "worker/comm/mpi_fabric.h"

#include <mpi.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "worker/comm/mpi_state.h"
#include "worker/comm/self_link.h"
#include "worker/comm/single_fabric.h"

namespace fulger {
namespace {

class MpiFabric final : public Fabric {
 public:
  explicit MpiFabric(std::shared_ptr<MpiState> state) : state_(std::move(state)) {
    world_.resize(static_cast<size_t>(state_->size()));
    std::iota(world_.begin(), world_.end(), 0);
  }

  int rank() const override { return state_->rank(); }
  int size() const override { return state_->size(); }
  std::string name() const override { return "mpi"; }

  absl::StatusOr<std::unique_ptr<Collective>> Group(std::span<const int> ranks,
                                                    const std::string& name) override {
    const Where where{"group", name, "create"};
    RETURN_IF_ERROR(state_->Check(where));
    RETURN_IF_ERROR(CheckGroupMembers(name, ranks, rank(), size()));
    if (!groups_.insert(name).second) return AlreadyExists("group {}: rank {} made it before", name, rank());
    if (ranks.size() == 1) return MakeSingleCollective(name, state_->shared_failure());
    const int tag = state_->TagOf("group " + name);
    RETURN_IF_ERROR(Meet(where, ranks, tag));
    ASSIGN_OR_RETURN(const MPI_Comm comm, Create(where, ranks, tag));
    state_->Keep(comm);
    const auto self = std::find(ranks.begin(), ranks.end(), rank());
    return MakeMpiCollective(state_, comm, std::vector<int>(ranks.begin(), ranks.end()),
                             static_cast<int>(self - ranks.begin()), name);
  }

  absl::StatusOr<std::unique_ptr<Link>> Connect(int from, int to, const std::string& name) override {
    RETURN_IF_ERROR(state_->Check(Where{"link", name, "connect"}));
    RETURN_IF_ERROR(CheckLinkEnds(name, from, to, rank(), size()));
    if (!links_.insert(name).second) return AlreadyExists("link {}: rank {} made it before", name, rank());
    if (from == to) return MakeSelfLink(name, state_->shared_failure());
    const int tag = state_->TagOf("link " + name);
    // Both ends see both names, so both refuse.
    const auto [other, fresh] = link_tags_.emplace(std::tuple(from, to, tag), name);
    if (!fresh) {
      return AlreadyExists("link {}: {} -> {} has link {} with the same tag {}; rename one", name, from, to,
                           other->second, tag);
    }
    return MakeMpiLink(state_, from, to, tag, name);
  }

  void Abort(const absl::Status& why) override { state_->failure().Abort(why); }

  absl::StatusOr<bool> Progress() override {
    RETURN_IF_ERROR(state_->Check(Where{"fabric", "mpi", "progress"}));
    return state_->Reap();
  }

 private:
  // MPI_Comm_create_group cannot be interrupted. So the members first meet by messages, which can: each tells
  // the first one which ranks it means, and goes on when that one has heard all.
  absl::Status Meet(const Where& where, std::span<const int> ranks, int tag) {
    const uint64_t members = Fingerprint(ranks);
    const int leader = ranks.front();
    const auto deadline = state_->options().deadline;
    MpiExchange exchange(*state_, state_->setup_comm(), world_);
    uint64_t verdict = members;
    if (rank() != leader) {
      RETURN_IF_ERROR(exchange.Recv(where, leader, tag, &verdict, sizeof(verdict)));
      RETURN_IF_ERROR(exchange.Send(where, leader, tag, &members, sizeof(members)));
      RETURN_IF_ERROR(exchange.Finish(where, deadline));
    } else {
      std::vector<uint64_t> said(ranks.size(), members);
      for (size_t i = 1; i < ranks.size(); ++i) {
        RETURN_IF_ERROR(exchange.Recv(where, ranks[i], tag, &said[i], sizeof(uint64_t)));
      }
      RETURN_IF_ERROR(exchange.Finish(where, deadline));
      if (std::any_of(said.begin(), said.end(), [&](uint64_t s) { return s != members; })) verdict = ~members;
      for (size_t i = 1; i < ranks.size(); ++i) {
        RETURN_IF_ERROR(exchange.Send(where, ranks[i], tag, &verdict, sizeof(verdict)));
      }
      RETURN_IF_ERROR(exchange.Finish(where, deadline));
    }
    if (verdict == members) return absl::OkStatus();
    return state_->Fail(Internal("{}: rank {} says {}, another member says otherwise", where.ToString(),
                                 rank(), JoinRanks(ranks)));
  }

  static uint64_t Fingerprint(std::span<const int> ranks) {
    uint64_t hash = 14695981039346656037u;
    for (const int rank : ranks) hash = (hash ^ static_cast<uint64_t>(rank)) * 1099511628211u;
    return hash;
  }

  absl::StatusOr<MPI_Comm> Create(const Where& where, std::span<const int> ranks, int tag) {
    MPI_Group world = MPI_GROUP_NULL, members = MPI_GROUP_NULL;
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Comm_group(state_->setup_comm(), &world);
    int code = MPI_Group_incl(world, static_cast<int>(ranks.size()), ranks.data(), &members);
    if (code == MPI_SUCCESS) code = MPI_Comm_create_group(state_->setup_comm(), members, tag, &comm);
    MPI_Group_free(&members);
    MPI_Group_free(&world);
    if (code != MPI_SUCCESS) return state_->MpiFailure(where, "MPI_Comm_create_group", -1, code);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    return comm;
  }

  const std::shared_ptr<MpiState> state_;  // shared with the collectives and links made here
  std::vector<int> world_;                 // 0, 1, ..., size - 1
  std::set<std::string> groups_, links_;
  std::map<std::tuple<int, int, int>, std::string> link_tags_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Fabric>> MakeMpiFabric(const FabricOptions& options) {
  ASSIGN_OR_RETURN(std::shared_ptr<MpiState> state, MpiState::Make(options));
  return std::make_unique<MpiFabric>(std::move(state));
}

std::string MpiVersion() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "unknown";
  const std::string version(text, static_cast<size_t>(length));
  return version.substr(0, version.find_first_of(",\n"));  // the rest is when and by whom it was built
}

}  // namespace fulger
