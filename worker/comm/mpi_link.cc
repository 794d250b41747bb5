// A directed pair over MPI. A receive probes first: so it knows the size, and an abort or a deadline leaves
// no posted receive behind.
#include <mpi.h>

#include <algorithm>
#include <utility>

#include "worker/comm/mpi_state.h"

namespace fulger {
namespace {

class MpiLink final : public Link {
 public:
  MpiLink(std::shared_ptr<MpiState> state, int from, int to, int tag, std::string name)
      : state_(std::move(state)), from_(from), to_(to), tag_(tag), name_(std::move(name)) {}

  absl::Status Send(Stream& stream, const TensorView& data) override {
    const Where where{"link", name_, "send"};
    RETURN_IF_ERROR(state_->Check(where));
    RETURN_IF_ERROR(CheckEnd(where, from_));
    RETURN_IF_ERROR(CheckMessage(where, data));
    RETURN_IF_ERROR(stream.Synchronize());
    return state_->SendOwned(where, CopyIn(*pool_, data.raw(), static_cast<size_t>(data.bytes())), pool_, to_,
                             tag_);
  }

  absl::Status Recv(Stream& stream, const MutTensorView& data) override {
    const Where where{"link", name_, "receive"};
    RETURN_IF_ERROR(state_->Check(where));
    RETURN_IF_ERROR(CheckEnd(where, to_));
    RETURN_IF_ERROR(CheckMessage(where, data));
    RETURN_IF_ERROR(stream.Synchronize());
    const size_t bytes = static_cast<size_t>(data.bytes());
    char* out = static_cast<char*>(data.mut_raw());
    size_t begin = 0;
    do {
      const size_t piece = std::min(bytes - begin, kMpiPieceBytes);
      RETURN_IF_ERROR(RecvPiece(where, out + begin, piece));
      begin += piece;
    } while (begin < bytes);
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Ready() override {
    const Where where{"link", name_, "ready"};
    RETURN_IF_ERROR(state_->Check(where));
    RETURN_IF_ERROR(CheckEnd(where, to_));
    RETURN_IF_ERROR(state_->Reap().status());
    int found = 0;
    const int code = MPI_Iprobe(from_, tag_, state_->link_comm(), &found, MPI_STATUS_IGNORE);
    if (code != MPI_SUCCESS) return state_->MpiFailure(where, "MPI_Iprobe", from_, code);
    return found != 0;
  }

 private:
  absl::Status CheckEnd(const Where& where, int end) const {
    if (state_->rank() == end) return absl::OkStatus();
    return Internal("{}: rank {} is the wrong end of {} -> {}", where.ToString(), state_->rank(), from_, to_);
  }

  absl::Status RecvPiece(const Where& where, void* data, size_t bytes) {
    const auto nothing = [&] {
      return DeadlineExceeded("{}: nothing from rank {} within {} ms", where.ToString(), from_,
                              state_->options().deadline.count());
    };
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    const auto probe = [&]() -> absl::StatusOr<bool> {
      int found = 0;
      const int code = MPI_Improbe(from_, tag_, state_->link_comm(), &found, &message, &status);
      if (code != MPI_SUCCESS) return state_->MpiFailure(where, "MPI_Improbe", from_, code);
      return found != 0;
    };
    RETURN_IF_ERROR(state_->WaitUntil(where, probe, nothing));
    int count = 0;
    MPI_Get_count(&status, MPI_BYTE, &count);
    if (absl::Status size = CheckMessageSize(where, bytes, static_cast<size_t>(count)); !size.ok()) {
      return state_->Fail(size);
    }
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = MPI_Imrecv(data, count, MPI_BYTE, &message, &request);
    if (code != MPI_SUCCESS) return state_->MpiFailure(where, "MPI_Imrecv", from_, code);
    const auto test = [&]() -> absl::StatusOr<bool> {
      int done = 0;
      const int error = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (error != MPI_SUCCESS) return state_->MpiFailure(where, "MPI_Test", from_, error);
      return done != 0;
    };
    return state_->WaitUntil(where, test, nothing);
  }

  const std::shared_ptr<MpiState> state_;  // shared with the fabric and what else it made
  const int from_, to_, tag_;
  const std::string name_;
  // Shared with sends in flight, which may outlive the link.
  const std::shared_ptr<BufferPool> pool_ = std::make_shared<BufferPool>();
};

}  // namespace

std::unique_ptr<Link> MakeMpiLink(std::shared_ptr<MpiState> state, int from, int to, int tag,
                                  std::string name) {
  return std::make_unique<MpiLink>(std::move(state), from, to, tag, std::move(name));
}

}  // namespace fulger
