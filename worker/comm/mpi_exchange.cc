#include <algorithm>

#include "worker/comm/mpi_state.h"

namespace fulger {

absl::Status MpiExchange::Recv(const Where& where, int peer, int tag, void* data, size_t bytes) {
  size_t begin = 0;
  do {
    const size_t piece = std::min(bytes - begin, kMpiPieceBytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = MPI_Irecv(static_cast<char*>(data) + begin, static_cast<int>(piece), MPI_BYTE, peer, tag,
                               comm_, &request);
    if (code != MPI_SUCCESS) {
      return state_.MpiFailure(where, "MPI_Irecv", ranks_[static_cast<size_t>(peer)], code);
    }
    requests_.push_back(request);
    transfers_.push_back({peer, true, piece});
    begin += piece;
  } while (begin < bytes);
  return absl::OkStatus();
}

absl::Status MpiExchange::Send(const Where& where, int peer, int tag, const void* data, size_t bytes) {
  size_t begin = 0;
  do {
    const size_t piece = std::min(bytes - begin, kMpiPieceBytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code = MPI_Isend(static_cast<const char*>(data) + begin, static_cast<int>(piece), MPI_BYTE,
                               peer, tag, comm_, &request);
    if (code != MPI_SUCCESS) {
      return state_.MpiFailure(where, "MPI_Isend", ranks_[static_cast<size_t>(peer)], code);
    }
    requests_.push_back(request);
    transfers_.push_back({peer, false, piece});
    begin += piece;
  } while (begin < bytes);
  return absl::OkStatus();
}

absl::Status MpiExchange::Finish(const Where& where, std::chrono::milliseconds limit) {
  open_ = requests_.size();
  done_.resize(requests_.size());
  statuses_.resize(requests_.size());
  const absl::Status status = state_.WaitFor(
      where, limit, [&] { return Poll(where); }, [&] { return Missing(where, limit); });
  if (!status.ok()) CancelReceives();
  requests_.clear();
  transfers_.clear();
  return status;
}

absl::StatusOr<bool> MpiExchange::Poll(const Where& where) {
  if (open_ == 0) return true;
  int count = 0;
  const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count, done_.data(),
                                statuses_.data());
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) {
    return state_.MpiFailure(where, "MPI_Testsome", -1, code);
  }
  for (size_t i = 0; count != MPI_UNDEFINED && i < static_cast<size_t>(count); ++i) {
    // MPI fills MPI_ERROR only when the call itself says so.
    MPI_Status status = statuses_[i];
    if (code == MPI_SUCCESS) status.MPI_ERROR = MPI_SUCCESS;
    RETURN_IF_ERROR(Completed(where, transfers_[static_cast<size_t>(done_[i])], status));
    --open_;
  }
  return open_ == 0;
}

absl::Status MpiExchange::Completed(const Where& where, const Transfer& transfer,
                                    const MPI_Status& status) const {
  const int peer = ranks_[static_cast<size_t>(transfer.peer)];
  if (status.MPI_ERROR == MPI_ERR_TRUNCATE) {
    return Internal("{}: expected {} bytes from rank {}, found more", where.ToString(), transfer.bytes, peer);
  }
  if (status.MPI_ERROR != MPI_SUCCESS) {
    return state_.MpiFailure(where, transfer.receive ? "MPI_Irecv" : "MPI_Isend", peer, status.MPI_ERROR);
  }
  if (!transfer.receive) return absl::OkStatus();
  int bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  if (static_cast<size_t>(bytes) == transfer.bytes) return absl::OkStatus();
  return Internal("{}: expected {} bytes from rank {}, found {}", where.ToString(), transfer.bytes, peer,
                  bytes);
}

absl::Status MpiExchange::Missing(const Where& where, std::chrono::milliseconds limit) const {
  std::vector<int> from, to;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    (transfers_[i].receive ? from : to).push_back(ranks_[static_cast<size_t>(transfers_[i].peer)]);
  }
  for (std::vector<int>* list : {&from, &to}) {
    std::sort(list->begin(), list->end());
    list->erase(std::unique(list->begin(), list->end()), list->end());
  }
  if (from.empty()) {
    return DeadlineExceeded("{}: rank {} did not take its data within {} ms", where.ToString(), JoinRanks(to),
                            limit.count());
  }
  return DeadlineExceeded("{}: nothing from rank {} within {} ms", where.ToString(), JoinRanks(from),
                          limit.count());
}

void MpiExchange::CancelReceives() {
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL || !transfers_[i].receive) continue;
    if (MPI_Cancel(&requests_[i]) != MPI_SUCCESS) continue;
    int done = 0;
    MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE);
  }
}

}  // namespace fulger
