#include "worker/comm/staged_fabric.h"

#include <cstddef>
#include <utility>

namespace fulger {
namespace {

// What the inner fabric gets: host memory is ready when it is handed over.
class ReadyStream final : public Stream {
 public:
  absl::Status Synchronize() override { return absl::OkStatus(); }
};

// Grow-only host memory. A failed operation of the inner fabric may still use it (mpi_fabric.h): it is then
// left behind.
class HostCopy {
 public:
  explicit HostCopy(Device& device) : device_(device) {}
  ~HostCopy() {
    if (lost_) static_cast<void>(memory_.release());
  }

  absl::StatusOr<void*> Fetch(Stream& stream, const TensorView& from, size_t room) {
    Reserve(room);
    RETURN_IF_ERROR(device_.CopyToHost(stream, from.raw(), memory_.get(), static_cast<size_t>(from.bytes())));
    RETURN_IF_ERROR(stream.Synchronize());
    return static_cast<void*>(memory_.get());
  }
  void* Reserve(size_t bytes) {
    if (bytes > size_) {
      memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
      size_ = bytes;
    }
    return memory_.get();
  }
  // Passes on the inner fabric's status; `to` gets the bytes if it is OK.
  absl::Status Store(Stream& stream, const absl::Status& status, const void* from, const MutTensorView& to) {
    if (!status.ok()) {
      lost_ = true;
      return status;
    }
    return device_.CopyToDevice(stream, from, to.mut_raw(), static_cast<size_t>(to.bytes()));
  }
  bool Holds(const TensorView& view) const { return device_.holds(view.raw()); }

 private:
  Device& device_;
  std::unique_ptr<std::byte[]> memory_;
  size_t size_ = 0;
  bool lost_ = false;
};

// The same shape in other memory; inner fabrics look at types and sizes only.
MutTensorView Flat(void* memory, const TensorView& like) {
  return MutTensorView(memory, like.dtype(), {like.elements()});
}

class StagedCollective final : public Collective {
 public:
  StagedCollective(std::unique_ptr<Collective> inner, Device& device)
      : inner_(std::move(inner)), host_(device) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }

  absl::Status AllReduceSum(Stream& stream, const MutTensorView& data) override {
    if (size() == 1 || !data.contiguous() || !host_.Holds(data)) return inner_->AllReduceSum(stream, data);
    ASSIGN_OR_RETURN(void* const memory, host_.Fetch(stream, data, static_cast<size_t>(data.bytes())));
    return host_.Store(stream, inner_->AllReduceSum(ready_, Flat(memory, data)), memory, data);
  }
  absl::Status AllGather(Stream& stream, const TensorView& in, const MutTensorView& out) override {
    if (!in.contiguous() || !out.contiguous() || !host_.Holds(in)) return inner_->AllGather(stream, in, out);
    const auto in_bytes = static_cast<size_t>(in.bytes());
    ASSIGN_OR_RETURN(void* const memory,
                     host_.Fetch(stream, in, in_bytes + static_cast<size_t>(out.bytes())));
    void* const all = static_cast<std::byte*>(memory) + in_bytes;
    return host_.Store(stream, inner_->AllGather(ready_, Flat(memory, in), Flat(all, out)), all, out);
  }
  absl::Status Broadcast(Stream& stream, const MutTensorView& data, int root) override {
    if (size() == 1 || !data.contiguous() || !host_.Holds(data)) return inner_->Broadcast(stream, data, root);
    ASSIGN_OR_RETURN(void* const memory, host_.Fetch(stream, data, static_cast<size_t>(data.bytes())));
    return host_.Store(stream, inner_->Broadcast(ready_, Flat(memory, data), root), memory, data);
  }
  absl::Status Barrier(Stream& stream) override {
    RETURN_IF_ERROR(stream.Synchronize());
    return inner_->Barrier(ready_);
  }

 private:
  const std::unique_ptr<Collective> inner_;
  HostCopy host_;
  ReadyStream ready_;
};

class StagedLink final : public Link {
 public:
  StagedLink(std::unique_ptr<Link> inner, Device& device) : inner_(std::move(inner)), host_(device) {}

  // The inner link takes a copy of its own, so the host memory is free again.
  absl::Status Send(Stream& stream, const TensorView& data) override {
    if (!data.contiguous() || !host_.Holds(data)) return inner_->Send(stream, data);
    ASSIGN_OR_RETURN(void* const memory, host_.Fetch(stream, data, static_cast<size_t>(data.bytes())));
    return inner_->Send(ready_, Flat(memory, data));
  }
  absl::Status Recv(Stream& stream, const MutTensorView& data) override {
    if (!data.contiguous() || !host_.Holds(data)) return inner_->Recv(stream, data);
    void* const memory = host_.Reserve(static_cast<size_t>(data.bytes()));
    return host_.Store(stream, inner_->Recv(ready_, Flat(memory, data)), memory, data);
  }
  absl::StatusOr<bool> Ready() override { return inner_->Ready(); }

 private:
  const std::unique_ptr<Link> inner_;
  HostCopy host_;
  ReadyStream ready_;
};

class StagedFabric final : public Fabric {
 public:
  StagedFabric(std::unique_ptr<Fabric> inner, Device& device) : inner_(std::move(inner)), device_(device) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string name() const override { return inner_->name() + " through host memory"; }

  absl::StatusOr<std::unique_ptr<Collective>> Group(std::span<const int> ranks,
                                                    const std::string& name) override {
    ASSIGN_OR_RETURN(auto group, inner_->Group(ranks, name));
    return std::make_unique<StagedCollective>(std::move(group), device_);
  }
  absl::StatusOr<std::unique_ptr<Link>> Connect(int from, int to, const std::string& name) override {
    ASSIGN_OR_RETURN(auto link, inner_->Connect(from, to, name));
    return std::make_unique<StagedLink>(std::move(link), device_);
  }
  void Abort(const absl::Status& why) override { inner_->Abort(why); }
  absl::StatusOr<bool> Progress() override { return inner_->Progress(); }

 private:
  const std::unique_ptr<Fabric> inner_;
  Device& device_;
};

}  // namespace

std::unique_ptr<Fabric> MakeStagedFabric(std::unique_ptr<Fabric> inner, Device& device) {
  return std::make_unique<StagedFabric>(std::move(inner), device);
}

}  // namespace fulger
