#include "worker/comm/metered_fabric.h"

#include <chrono>
#include <utility>

namespace fulger {
namespace {

class Stopwatch {
 public:
  explicit Stopwatch(double* seconds) : seconds_(seconds) {}
  ~Stopwatch() {
    *seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double* const seconds_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class MeteredCollective final : public Collective {
 public:
  MeteredCollective(std::unique_ptr<Collective> inner, Traffic* traffic)
      : inner_(std::move(inner)), traffic_(*traffic) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }

  absl::Status AllReduceSum(Stream& stream, const MutTensorView& data) override {
    const Stopwatch watch = Count(data);
    return inner_->AllReduceSum(stream, data);
  }
  absl::Status AllGather(Stream& stream, const TensorView& in, const MutTensorView& out) override {
    const Stopwatch watch = Count(out);
    return inner_->AllGather(stream, in, out);
  }
  absl::Status Broadcast(Stream& stream, const MutTensorView& data, int root) override {
    const Stopwatch watch = Count(data);
    return inner_->Broadcast(stream, data, root);
  }
  absl::Status Barrier(Stream& stream) override {
    const Stopwatch watch(&traffic_.collective_seconds);
    return inner_->Barrier(stream);
  }

 private:
  // A group of one exchanges nothing.
  Stopwatch Count(const TensorView& data) {
    if (size() > 1) traffic_.collective_bytes += static_cast<uint64_t>(data.bytes());
    return Stopwatch(&traffic_.collective_seconds);
  }

  const std::unique_ptr<Collective> inner_;
  Traffic& traffic_;
};

class MeteredLink final : public Link {
 public:
  MeteredLink(std::unique_ptr<Link> inner, Traffic* traffic) : inner_(std::move(inner)), traffic_(*traffic) {}

  absl::Status Send(Stream& stream, const TensorView& data) override {
    traffic_.link_bytes += static_cast<uint64_t>(data.bytes());
    return inner_->Send(stream, data);
  }
  absl::Status Recv(Stream& stream, const MutTensorView& data) override { return inner_->Recv(stream, data); }
  absl::StatusOr<bool> Ready() override { return inner_->Ready(); }

 private:
  const std::unique_ptr<Link> inner_;
  Traffic& traffic_;
};

class MeteredFabric final : public Fabric {
 public:
  MeteredFabric(std::unique_ptr<Fabric> inner, Traffic* traffic)
      : inner_(std::move(inner)), traffic_(traffic) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string name() const override { return inner_->name(); }

  absl::StatusOr<std::unique_ptr<Collective>> Group(std::span<const int> ranks,
                                                    const std::string& name) override {
    ASSIGN_OR_RETURN(auto group, inner_->Group(ranks, name));
    return std::make_unique<MeteredCollective>(std::move(group), traffic_);
  }
  absl::StatusOr<std::unique_ptr<Link>> Connect(int from, int to, const std::string& name) override {
    ASSIGN_OR_RETURN(auto link, inner_->Connect(from, to, name));
    return std::make_unique<MeteredLink>(std::move(link), traffic_);
  }
  void Abort(const absl::Status& why) override { inner_->Abort(why); }
  absl::StatusOr<bool> Progress() override { return inner_->Progress(); }

 private:
  const std::unique_ptr<Fabric> inner_;
  Traffic* const traffic_;
};

}  // namespace

std::unique_ptr<Fabric> MakeMeteredFabric(std::unique_ptr<Fabric> inner, Traffic* traffic) {
  return std::make_unique<MeteredFabric>(std::move(inner), traffic);
}

}  // namespace fulger
