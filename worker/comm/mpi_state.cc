#include "worker/comm/mpi_state.h"

#include <numeric>

#include "base/log.h"
#include "worker/comm/launcher.h"

namespace fulger {
namespace {

std::string ErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return fmt::format("error {}", code);
  return std::string(text, static_cast<size_t>(length));
}

// FNV-1a: the same in every process and build, unlike std::hash.
uint64_t Hash(std::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

constexpr Where kStart{"fabric", "mpi", "start"};

}  // namespace

absl::Status MpiState::MpiFailure(const Where& where, const char* call, int peer, int code) {
  const std::string with = peer < 0 ? "" : fmt::format(" with rank {}", peer);
  return Fail(Unavailable("{}{}: {} failed: {}", where.ToString(), with, call, ErrorText(code)));
}

int MpiState::TagOf(std::string_view name) const { return TagOf(Hash(name)); }

absl::StatusOr<std::shared_ptr<MpiState>> MpiState::Make(const FabricOptions& options) {
  std::shared_ptr<MpiState> state(new MpiState(options));
  if (absl::Status started = state->Start(); !started.ok()) return state->Fail(started);
  return state;
}

absl::Status MpiState::Start() {
  int initialised = 0, finalised = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  if (finalised != 0) {
    return FailedPrecondition(
        "{}: MPI was finalised in this process before; a rebuilt replica needs new processes",
        kStart.ToString());
  }
  int provided = MPI_THREAD_SINGLE;
  if (initialised == 0) {
    const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    if (code != MPI_SUCCESS) return Unavailable("{}: MPI_Init_thread failed", kStart.ToString());
    initialised_here_ = true;
  } else {
    MPI_Query_thread(&provided);
  }
  if (provided < MPI_THREAD_FUNNELED) {
    return FailedPrecondition("{}: this MPI grants thread level {} only, MPI_THREAD_FUNNELED is needed",
                              kStart.ToString(), provided);
  }
  // Errors of calls that belong to no communicator go to this one's handler.
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  RETURN_IF_ERROR(CheckLauncher());

  void* limit = nullptr;
  int found = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &found);
  if (found != 0) tag_limit_ = static_cast<uint64_t>(*static_cast<int*>(limit));
  for (MPI_Comm* comm : {&setup_comm_, &link_comm_}) {
    const int code = MPI_Comm_dup(MPI_COMM_WORLD, comm);
    if (code != MPI_SUCCESS) return MpiFailure(kStart, "MPI_Comm_dup", -1, code);
  }
  return FindCrowding();
}

absl::Status MpiState::CheckLauncher() const {
  ASSIGN_OR_RETURN(const Launcher launcher, ProbeLauncher());
  if (launcher.size == 0 || launcher.size == size_) return absl::OkStatus();
  return FailedPrecondition("{}: {} started {} ranks but MPI sees {}: they do not share a PMI/PMIx; {}",
                            kStart.ToString(), launcher.name, launcher.size, size_, kStartMpiRanks);
}

// More ranks on this host than cores for them?
absl::Status MpiState::FindCrowding() {
  MPI_Comm host = MPI_COMM_NULL;
  const int code = MPI_Comm_split_type(setup_comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host);
  if (code != MPI_SUCCESS) return MpiFailure(kStart, "MPI_Comm_split_type", -1, code);
  int ranks_here = 1;
  MPI_Comm_size(host, &ranks_here);
  MPI_Comm_free(&host);
  crowded_ = ranks_here > static_cast<int>(std::thread::hardware_concurrency());
  return absl::OkStatus();
}

absl::Status MpiState::SendOwned(const Where& where, MessageBuffer buffer, std::shared_ptr<BufferPool> pool,
                                 int to, int tag) {
  OwnedSend send{{}, std::move(buffer), std::move(pool), std::string(where.name), to};
  const std::byte* data = send.buffer.data.get();
  size_t begin = 0;
  do {
    const size_t bytes = std::min(send.buffer.bytes - begin, kMpiPieceBytes);
    MPI_Request request = MPI_REQUEST_NULL;
    const int code =
        MPI_Isend(data + begin, static_cast<int>(bytes), MPI_BYTE, to, tag, link_comm_, &request);
    if (code != MPI_SUCCESS) return MpiFailure(where, "MPI_Isend", to, code);
    send.requests.push_back(request);
    begin += bytes;
  } while (begin < send.buffer.bytes);
  sends_.push_back(std::move(send));
  return Reap().status();
}

absl::StatusOr<bool> MpiState::Reap() {
  for (auto it = sends_.begin(); it != sends_.end();) {
    int done = 0;
    const int code =
        MPI_Testall(static_cast<int>(it->requests.size()), it->requests.data(), &done, MPI_STATUSES_IGNORE);
    if (code != MPI_SUCCESS) return MpiFailure({"link", it->link, "send"}, "MPI_Isend", it->to, code);
    if (done == 0) {
      ++it;
      continue;
    }
    it->pool->Give(std::move(it->buffer));
    it = sends_.erase(it);
  }
  return sends_.empty();
}

bool MpiState::AllRanksAreHere() {
  const Where where{"fabric", "mpi", "close"};
  const auto limit = std::min(options_.deadline, std::chrono::milliseconds(5000));
  std::vector<int> ranks(static_cast<size_t>(size_));
  std::iota(ranks.begin(), ranks.end(), 0);
  MpiExchange exchange(*this, setup_comm_, ranks);
  const int tag = TagOf(std::string_view("close"));
  absl::Status met = WaitFor(
      where, limit, [&] { return Reap(); },
      [&] { return DeadlineExceeded("{}: sends were not taken", where.ToString()); });
  for (int peer = 0; met.ok() && peer < size_; ++peer) {
    if (peer == rank_) continue;
    met = exchange.Recv(where, peer, tag, nullptr, 0);
    if (met.ok()) met = exchange.Send(where, peer, tag, nullptr, 0);
  }
  if (met.ok()) met = exchange.Finish(where, limit);
  if (!met.ok()) LogWarn("{}; MPI is left as it is, this process must end by _exit", met.ToString());
  return met.ok();
}

MpiState::~MpiState() {
  if (failure_->failed() || !AllRanksAreHere()) {
    // MPI may still read these: they must outlive us.
    for (OwnedSend& send : sends_) static_cast<void>(send.buffer.data.release());
    return;
  }
  for (MPI_Comm& comm : group_comms_) MPI_Comm_free(&comm);
  MPI_Comm_free(&link_comm_);
  MPI_Comm_free(&setup_comm_);
  if (initialised_here_) MPI_Finalize();
}

}  // namespace fulger
