#include "worker/comm/single_fabric.h"

#include <cstring>
#include <set>
#include <utility>

#include "worker/comm/checks.h"
#include "worker/comm/self_link.h"

namespace fulger {
namespace {

class SingleCollective final : public Collective {
 public:
  SingleCollective(std::string name, std::shared_ptr<const Failure> failure)
      : name_(std::move(name)), failure_(std::move(failure)) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }

  absl::Status AllReduceSum(Stream&, const MutTensorView& data) override {
    const Where where{"group", name_, "all-reduce"};
    RETURN_IF_ERROR(failure_->Check(where));
    return CheckAllReduce(where, data);
  }
  absl::Status AllGather(Stream& stream, const TensorView& in, const MutTensorView& out) override {
    const Where where{"group", name_, "all-gather"};
    RETURN_IF_ERROR(failure_->Check(where));
    RETURN_IF_ERROR(CheckAllGather(where, in, out, 1));
    if (in.bytes() == 0 || in.raw() == out.raw()) return absl::OkStatus();
    RETURN_IF_ERROR(stream.Synchronize());
    std::memcpy(out.mut_raw(), in.raw(), static_cast<size_t>(in.bytes()));
    return absl::OkStatus();
  }
  absl::Status Broadcast(Stream&, const MutTensorView& data, int root) override {
    const Where where{"group", name_, "broadcast"};
    RETURN_IF_ERROR(failure_->Check(where));
    return CheckBroadcast(where, data, root, 1);
  }
  absl::Status Barrier(Stream&) override { return failure_->Check(Where{"group", name_, "barrier"}); }

 private:
  const std::string name_;
  const std::shared_ptr<const Failure> failure_;
};

class SingleFabric final : public Fabric {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string name() const override { return "single"; }

  absl::StatusOr<std::unique_ptr<Collective>> Group(std::span<const int> ranks,
                                                    const std::string& name) override {
    RETURN_IF_ERROR(failure_->Check(Where{"group", name, "create"}));
    RETURN_IF_ERROR(CheckGroupMembers(name, ranks, 0, 1));
    if (!groups_.insert(name).second) return AlreadyExists("group {}: the name is taken", name);
    return MakeSingleCollective(name, failure_);
  }
  absl::StatusOr<std::unique_ptr<Link>> Connect(int from, int to, const std::string& name) override {
    RETURN_IF_ERROR(failure_->Check(Where{"link", name, "connect"}));
    RETURN_IF_ERROR(CheckLinkEnds(name, from, to, 0, 1));
    if (!links_.insert(name).second) return AlreadyExists("link {}: the name is taken", name);
    return MakeSelfLink(name, failure_);
  }
  void Abort(const absl::Status& why) override { failure_->Abort(why); }

 private:
  // Shared with the collectives and links made here: they may outlive the fabric.
  const std::shared_ptr<Failure> failure_ = std::make_shared<Failure>();
  std::set<std::string> groups_, links_;
};

}  // namespace

std::unique_ptr<Collective> MakeSingleCollective(std::string name, std::shared_ptr<const Failure> failure) {
  return std::make_unique<SingleCollective>(std::move(name), std::move(failure));
}

std::unique_ptr<Fabric> MakeSingleFabric() { return std::make_unique<SingleFabric>(); }

}  // namespace fulger
