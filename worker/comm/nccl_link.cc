// A directed pair over NCCL: a stream and a communicator of its own. A send copies its data and leaves the
// rest to its stream, so it never waits for the receiver and two ranks may send each other anything at once.
//
// NCCL connects two ranks with their first message, which takes both. So each end connects and exchanges a
// first byte in a thread of its own: links may be made in any order on different ranks, and the first real
// send does not wait for the first receive.
#include <algorithm>
#include <thread>
#include <utility>

#include "worker/comm/nccl_state.h"
#include "worker/comm/nccl_tensor.h"

namespace fulger {
namespace {

class NcclLink final : public Link {
 public:
  NcclLink(std::shared_ptr<NcclState> state, int from, int to, std::string name)
      : state_(std::move(state)), from_(from), to_(to), name_(std::move(name)) {}
  ~NcclLink() override {
    if (connecting_.joinable()) connecting_.join();
    static_cast<void>(state_->Enter());
    if (stream_ != nullptr) static_cast<void>(cudaStreamSynchronize(stream_));
    for (Outgoing& o : outgoing_) {
      static_cast<void>(cudaEventDestroy(o.sent));
      static_cast<void>(cudaFree(o.memory));
    }
    for (cudaEvent_t event : {data_ready_, arrived_}) {
      if (event != nullptr) static_cast<void>(cudaEventDestroy(event));
    }
    if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
  }

  absl::Status Open() {
    RETURN_IF_ERROR(state_->Enter());
    NCCL_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    NCCL_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&data_ready_, cudaEventDisableTiming));
    NCCL_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&arrived_, cudaEventDisableTiming));
    connecting_ = std::thread([this] { connected_ = ConnectEnds(); });
    return absl::OkStatus();
  }

  absl::Status Send(Stream& stream, const TensorView& data) override {
    const Where where{"link", name_, "send"};
    RETURN_IF_ERROR(Begin(where, from_, data));
    const auto bytes = static_cast<size_t>(data.bytes());
    if (bytes == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(Outgoing* const out, TakeOutgoing(bytes));
    const cudaStream_t compute = state_->StreamOf(stream);
    if (OnGpu(data.raw())) {
      NCCL_CUDA_RETURN_IF_ERROR(
          cudaMemcpyAsync(out->memory, data.raw(), bytes, cudaMemcpyDeviceToDevice, compute));
      NCCL_CUDA_RETURN_IF_ERROR(cudaEventRecord(data_ready_, compute));
      NCCL_CUDA_RETURN_IF_ERROR(cudaStreamWaitEvent(stream_, data_ready_, 0));
    } else {
      NCCL_CUDA_RETURN_IF_ERROR(
          cudaMemcpyAsync(out->memory, data.raw(), bytes, cudaMemcpyHostToDevice, stream_));
      // The runtime has taken pageable bytes when it returns; pinned ones only when the copy is done.
      NCCL_CUDA_RETURN_IF_ERROR(cudaEventRecord(data_ready_, stream_));
      NCCL_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(data_ready_));
    }
    RETURN_IF_ERROR(state_->Call(where, handle_, [&](ncclComm_t comm) {
      return state_->library().send(out->memory, bytes, ncclUint8, /*peer=*/1, comm, stream_);
    }));
    NCCL_CUDA_RETURN_IF_ERROR(cudaEventRecord(out->sent, stream_));
    return state_->Track(where, handle_, stream_);
  }

  absl::Status Recv(Stream& stream, const MutTensorView& data) override {
    const Where where{"link", name_, "receive"};
    RETURN_IF_ERROR(Begin(where, to_, data));
    const auto bytes = static_cast<size_t>(data.bytes());
    if (bytes == 0) return absl::OkStatus();
    const bool on_gpu = OnGpu(data.raw());
    void* place = data.mut_raw();
    const cudaStream_t compute = state_->StreamOf(stream);
    if (on_gpu) {  // whoever uses the memory now is done first
      NCCL_CUDA_RETURN_IF_ERROR(cudaEventRecord(data_ready_, compute));
      NCCL_CUDA_RETURN_IF_ERROR(cudaStreamWaitEvent(stream_, data_ready_, 0));
    } else {
      ASSIGN_OR_RETURN(Outgoing* const buffer, TakeOutgoing(bytes));
      place = buffer->memory;
    }
    RETURN_IF_ERROR(state_->Call(where, handle_, [&](ncclComm_t comm) {
      return state_->library().recv(place, bytes, ncclUint8, /*peer=*/0, comm, stream_);
    }));
    RETURN_IF_ERROR(state_->Track(where, handle_, stream_));
    if (on_gpu) {
      NCCL_CUDA_RETURN_IF_ERROR(cudaEventRecord(arrived_, stream_));
      return CudaStatus(cudaStreamWaitEvent(compute, arrived_, 0), "cudaStreamWaitEvent");
    }
    RETURN_IF_ERROR(state_->Wait(where, stream_));
    NCCL_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(data.mut_raw(), place, bytes, cudaMemcpyDeviceToHost, stream_));
    return CudaStatus(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

  absl::StatusOr<bool> Ready() override {
    return Unimplemented("link {}: ready: NCCL cannot tell whether a message waits", name_);
  }

 private:
  struct Outgoing {  // a copy of what is on its way, used again when it has gone
    void* memory = nullptr;
    size_t capacity = 0;
    cudaEvent_t sent = nullptr;
  };

  absl::Status ConnectEnds() {
    const Where where{"link", name_, "connect"};
    const int ends[] = {from_, to_};
    ASSIGN_OR_RETURN(handle_, state_->Start(where, ends));
    RETURN_IF_ERROR(state_->Connected(where, handle_));
    RETURN_IF_ERROR(state_->Enter());
    void* byte = nullptr;
    NCCL_CUDA_RETURN_IF_ERROR(cudaMalloc(&byte, 1));
    absl::Status status = state_->Call(where, handle_, [&](ncclComm_t comm) {
      const NcclLibrary& nccl = state_->library();
      return state_->rank() == from_ ? nccl.send(byte, 1, ncclUint8, 1, comm, stream_)
                                     : nccl.recv(byte, 1, ncclUint8, 0, comm, stream_);
    });
    if (status.ok()) status = state_->Track(where, handle_, stream_);
    if (status.ok()) status = state_->Wait(where, stream_);
    static_cast<void>(cudaFree(byte));
    return status;
  }

  absl::Status Begin(const Where& where, int end, const TensorView& data) {
    RETURN_IF_ERROR(state_->Check(where));
    if (state_->rank() != end) {
      return Internal("{}: rank {} is the wrong end of {} -> {}", where.ToString(), state_->rank(), from_,
                      to_);
    }
    RETURN_IF_ERROR(CheckMessage(where, data));
    if (connecting_.joinable()) connecting_.join();
    RETURN_IF_ERROR(connected_);
    return state_->Enter();
  }

  absl::StatusOr<Outgoing*> TakeOutgoing(size_t bytes) {
    for (Outgoing& o : outgoing_) {
      if (o.capacity >= bytes && cudaEventQuery(o.sent) == cudaSuccess) return &o;
    }
    static_cast<void>(cudaGetLastError());  // "not ready" is no error
    Outgoing fresh;
    NCCL_CUDA_RETURN_IF_ERROR(cudaMalloc(&fresh.memory, bytes));
    fresh.capacity = bytes;
    NCCL_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&fresh.sent, cudaEventDisableTiming));
    return &outgoing_.emplace_back(fresh);
  }

  const std::shared_ptr<NcclState> state_;  // shared with the fabric and what else it made
  const int from_, to_;
  const std::string name_;
  std::thread connecting_;  // writes handle_ and connected_; joined before either is read
  absl::Status connected_;
  size_t handle_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t data_ready_ = nullptr;
  cudaEvent_t arrived_ = nullptr;
  std::deque<Outgoing> outgoing_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Link>> MakeNcclLink(std::shared_ptr<NcclState> state, int from, int to,
                                                   std::string name) {
  auto link = std::make_unique<NcclLink>(std::move(state), from, to, std::move(name));
  RETURN_IF_ERROR(link->Open());
  return link;
}

}  // namespace fulger
