// Collectives over NCCL, in stream order.
#include <utility>

#include "worker/comm/nccl_state.h"
#include "worker/comm/nccl_tensor.h"

namespace fulger {
namespace {

class NcclCollective final : public Collective {
 public:
  NcclCollective(std::shared_ptr<NcclState> state, size_t handle, std::vector<int> ranks, int index,
                 std::string name)
      : state_(std::move(state)),
        handle_(handle),
        ranks_(std::move(ranks)),
        index_(index),
        name_(std::move(name)) {}

  int rank() const override { return index_; }
  int size() const override { return static_cast<int>(ranks_.size()); }
  const std::string& name() const override { return name_; }

  absl::Status AllReduceSum(Stream& stream, const MutTensorView& data) override {
    const Where where{"group", name_, "all-reduce"};
    RETURN_IF_ERROR(CheckAllReduce(where, data));
    if (data.elements() == 0) return state_->Check(where);
    NcclTensors tensors(*state_, where, state_->StreamOf(stream));
    ASSIGN_OR_RETURN(void* const p, tensors.InOut(data));
    const auto count = static_cast<size_t>(data.elements());
    RETURN_IF_ERROR(state_->Call(where, handle_, [&](ncclComm_t comm) {
      return state_->library().all_reduce(p, p, count, ncclFloat32, ncclSum, comm, tensors.stream());
    }));
    return tensors.Finish(handle_);
  }

  absl::Status AllGather(Stream& stream, const TensorView& in, const MutTensorView& out) override {
    const Where where{"group", name_, "all-gather"};
    RETURN_IF_ERROR(CheckAllGather(where, in, out, size()));
    const auto bytes = static_cast<size_t>(in.bytes());
    if (bytes == 0) return state_->Check(where);
    NcclTensors tensors(*state_, where, state_->StreamOf(stream));
    ASSIGN_OR_RETURN(const auto places, tensors.InAndOut(in, out));
    RETURN_IF_ERROR(state_->Call(where, handle_, [&](ncclComm_t comm) {
      return state_->library().all_gather(places.first, places.second, bytes, ncclUint8, comm,
                                          tensors.stream());
    }));
    return tensors.Finish(handle_);
  }

  absl::Status Broadcast(Stream& stream, const MutTensorView& data, int root) override {
    const Where where{"group", name_, "broadcast"};
    RETURN_IF_ERROR(CheckBroadcast(where, data, root, size()));
    const auto bytes = static_cast<size_t>(data.bytes());
    if (bytes == 0) return state_->Check(where);
    NcclTensors tensors(*state_, where, state_->StreamOf(stream));
    ASSIGN_OR_RETURN(void* const p, tensors.InOut(data));
    RETURN_IF_ERROR(state_->Call(where, handle_, [&](ncclComm_t comm) {
      return state_->library().broadcast(p, p, bytes, ncclUint8, root, comm, tensors.stream());
    }));
    return tensors.Finish(handle_);
  }

  // An all-reduce of one number, waited for on the host: nobody's host goes on before everybody has come.
  absl::Status Barrier(Stream& stream) override {
    const Where where{"group", name_, "barrier"};
    float one = 1;
    NcclTensors tensors(*state_, where, state_->StreamOf(stream));
    ASSIGN_OR_RETURN(void* const p, tensors.InOut(MutTensorView(&one, DType::kF32, {1})));
    RETURN_IF_ERROR(state_->Call(where, handle_, [&](ncclComm_t comm) {
      return state_->library().all_reduce(p, p, 1, ncclFloat32, ncclSum, comm, tensors.stream());
    }));
    return tensors.Finish(handle_);
  }

 private:
  const std::shared_ptr<NcclState> state_;  // shared with the fabric and what else it made
  const size_t handle_;
  const std::vector<int> ranks_;
  const int index_;
  const std::string name_;
};

}  // namespace

std::unique_ptr<Collective> MakeNcclCollective(std::shared_ptr<NcclState> state, size_t handle,
                                               std::vector<int> ranks, int index, std::string name) {
  return std::make_unique<NcclCollective>(std::move(state), handle, std::move(ranks), index, std::move(name));
}

}  // namespace fulger
