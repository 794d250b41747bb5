#include "worker/comm/nccl_state.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "worker/comm/backoff.h"

namespace fulger {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kLook = std::chrono::milliseconds(20);
constexpr auto kFarewell = std::chrono::seconds(5);  // for closing communicators that are in order

constexpr int kFirstSharing = 23000;  // ranks on one GPU

// NCCL reads these when the first communicator is made. What the user has set stays.
void AllowSharing() {
  constexpr const char* kVariables[][2] = {
      {"NCCL_MULTI_RANK_GPU_ENABLE", "1"}, {"NCCL_NVLS_ENABLE", "0"}, {"NCCL_MAX_CTAS", "1"}};
  for (const auto& [name, value] : kVariables) setenv(name, value, /*overwrite=*/0);
}

}  // namespace

absl::Status CudaStatus(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return absl::OkStatus();
  static_cast<void>(cudaGetLastError());
  const bool absent = error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice;
  return MakeStatus(absent ? absl::StatusCode::kUnavailable : absl::StatusCode::kInternal,
                    "transport nccl: {}: {}{}", call, cudaGetErrorString(error),
                    absent ? "; it needs a GPU and its driver" : "");
}

absl::StatusOr<std::shared_ptr<NcclState>> NcclState::Make(const NcclSetup& setup,
                                                           const FabricOptions& options) {
  if (setup.rendezvous == nullptr || setup.rank < 0 || setup.rank >= setup.size) {
    return InvalidArgument("transport nccl: rank {} of {} needs a rendezvous", setup.rank, setup.size);
  }
  std::shared_ptr<NcclState> state(new NcclState(setup, options));
  int gpus = 0;
  NCCL_CUDA_RETURN_IF_ERROR(cudaGetDeviceCount(&gpus));
  if (setup.gpu >= gpus) return Unavailable("transport nccl: there is no GPU {}, {} found", setup.gpu, gpus);
  if (setup.ranks_per_gpu > 1) AllowSharing();
  ASSIGN_OR_RETURN(state->library_, NcclLibrary::Load(setup.library));
  if (setup.ranks_per_gpu > 1 && state->library_->version < kFirstSharing) {
    return FailedPrecondition(
        "transport nccl: NCCL {} wants a GPU for each rank, and --ranks-per-device is {}: 2.30 or newer can "
        "share "
        "(--nccl-library names one), or --transport mpi takes every tensor through host memory",
        state->library_->Describe(), setup.ranks_per_gpu);
  }
  RETURN_IF_ERROR(state->Enter());
  NCCL_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&state->stream_, cudaStreamNonBlocking));
  state->watchdog_ = std::thread([s = state.get()] { s->Watch(); });
  return state;
}

NcclState::~NcclState() {
  {
    std::lock_guard lock(mu_);
    ending_ = true;
    woken_.notify_all();
  }
  if (watchdog_.joinable()) watchdog_.join();
  static_cast<void>(cudaSetDevice(gpu_));
  if (failure_->failed()) AbortCommunicators();
  const auto until = Clock::now() + kFarewell;
  for (Comm& c : comms_) {
    if (c.comm == nullptr) continue;
    ncclResult_t result = c.connected ? library_->finalize(c.comm) : ncclInternalError;
    while (result == ncclInProgress && Clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (library_->async_error(c.comm, &result) != ncclSuccess) result = ncclInternalError;
    }
    static_cast<void>(result == ncclSuccess ? library_->destroy(c.comm) : library_->abort(c.comm));
  }
  for (const Pending& p : pending_) static_cast<void>(cudaEventDestroy(p.event));
  for (cudaEvent_t event : spare_events_) static_cast<void>(cudaEventDestroy(event));
  if (staging_ != nullptr) static_cast<void>(cudaFree(staging_));
  if (stream_ != nullptr) static_cast<void>(cudaStreamDestroy(stream_));
}

absl::Status NcclState::Enter() const { return CudaStatus(cudaSetDevice(gpu_), "cudaSetDevice"); }

absl::Status NcclState::Fail(const absl::Status& status) {
  const absl::Status kept = failure_->Set(status);
  std::lock_guard lock(mu_);
  woken_.notify_all();
  return kept;
}

void NcclState::Abort(const absl::Status& why) {
  failure_->Abort(why);
  rendezvous_->Abort(why);
  std::lock_guard lock(mu_);
  woken_.notify_all();
}

cudaStream_t NcclState::StreamOf(Stream& stream) const {
  if (stream.native() == nullptr) return stream_;
  // Garbage that a broken collective leaves behind must not be taken for a result.
  stream.OnSynchronize([failure = failure_] { return failure->Check(Where{"fabric", "nccl", "exchange"}); });
  return static_cast<cudaStream_t>(stream.native());
}

absl::StatusOr<void*> NcclState::HostStaging(cudaStream_t stream, size_t bytes) {
  if (bytes > staging_bytes_) {
    NCCL_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream));
    if (staging_ != nullptr) NCCL_CUDA_RETURN_IF_ERROR(cudaFree(std::exchange(staging_, nullptr)));
    staging_bytes_ = 0;
    NCCL_CUDA_RETURN_IF_ERROR(cudaMalloc(&staging_, bytes));
    staging_bytes_ = bytes;
  }
  return staging_;
}

absl::StatusOr<size_t> NcclState::Start(const Where& where, std::span<const int> ranks) {
  const std::string key = fmt::format("{} {}", where.kind, where.name);
  const std::string members = JoinRanks(ranks);
  const int index = static_cast<int>(std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin());
  ncclUniqueId id{};
  if (index == 0) {
    if (const ncclResult_t result = library_->get_unique_id(&id); result != ncclSuccess) {
      return Fail(
          Unavailable("{}: ncclGetUniqueId: {}; NCCL_SOCKET_IFNAME names the network interface to use",
                      where.ToString(), library_->Explain(result, nullptr)));
    }
    RETURN_IF_ERROR(rendezvous_->Publish(key, std::string(id.internal, sizeof(id.internal)) + members));
  } else {
    auto value = rendezvous_->Fetch(ranks[0], key, options_.deadline);
    if (!value.ok()) return Fail(Annotate(value.status(), where.ToString()));
    if (value->size() < sizeof(id.internal) || value->substr(sizeof(id.internal)) != members) {
      return Fail(
          Internal("{}: rank {} says {}, rank {} said {}", where.ToString(), rank_, members, ranks[0],
                   value->size() < sizeof(id.internal) ? "nothing" : value->substr(sizeof(id.internal))));
    }
    std::memcpy(id.internal, value->data(), sizeof(id.internal));
  }
  RETURN_IF_ERROR(Enter());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  std::lock_guard lock(mu_);
  RETURN_IF_ERROR(Check(where));
  Comm comm{.ranks = {ranks.begin(), ranks.end()}};
  const ncclResult_t result = library_->init(&comm.comm, static_cast<int>(ranks.size()), id, index, &config);
  if (result != ncclSuccess && result != ncclInProgress) return NcclFailure(where, comm, result);
  comms_.push_back(std::move(comm));
  return comms_.size() - 1;
}

absl::Status NcclState::LatePeers(const Where& where, const Comm& comm) const {
  return DeadlineExceeded("{}: not connected within {} ms: of ranks {}, at least one did not come",
                          where.ToString(), options_.deadline.count(), JoinRanks(comm.ranks));
}

absl::Status NcclState::NcclFailure(const Where& where, const Comm& comm, ncclResult_t result) {
  return failure_->Set(Unavailable("{}: NCCL over ranks {}: {}", where.ToString(), JoinRanks(comm.ranks),
                                   library_->Explain(result, comm.comm)));
}

absl::Status NcclState::Connected(const Where& where, size_t handle) {
  const auto until = Clock::now() + options_.deadline;
  Backoff backoff(/*crowded=*/true);
  while (true) {
    {
      std::lock_guard lock(mu_);
      RETURN_IF_ERROR(Check(where));
      Comm& comm = comms_[handle];
      if (comm.connected) return absl::OkStatus();
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = library_->async_error(comm.comm, &state);
      if (asked != ncclSuccess) return NcclFailure(where, comm, asked);
      if (state == ncclSuccess) {
        comm.connected = true;
        return absl::OkStatus();
      }
      if (state != ncclInProgress) return NcclFailure(where, comm, state);
      if (Clock::now() > until) return failure_->Set(LatePeers(where, comm));
    }
    backoff.Pause();
  }
}

absl::Status NcclState::Call(const Where& where, size_t handle,
                             const std::function<ncclResult_t(ncclComm_t)>& call) {
  const auto until = Clock::now() + options_.deadline;
  Backoff backoff(/*crowded=*/true);
  bool called = false;
  while (true) {
    {
      std::lock_guard lock(mu_);
      RETURN_IF_ERROR(Check(where));
      Comm& comm = comms_[handle];
      ncclResult_t result = ncclSuccess;
      if (!called) {
        result = call(comm.comm);
        called = true;
      } else if (const ncclResult_t asked = library_->async_error(comm.comm, &result); asked != ncclSuccess) {
        result = asked;
      }
      if (result == ncclSuccess) return absl::OkStatus();
      if (result != ncclInProgress) return NcclFailure(where, comm, result);
      if (Clock::now() > until) return failure_->Set(LatePeers(where, comm));
    }
    backoff.Pause();
  }
}

absl::StatusOr<cudaEvent_t> NcclState::TakeEvent() {
  if (!spare_events_.empty()) {
    cudaEvent_t event = spare_events_.back();
    spare_events_.pop_back();
    return event;
  }
  cudaEvent_t event = nullptr;
  NCCL_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

absl::Status NcclState::Track(const Where& where, size_t handle, cudaStream_t stream) {
  std::lock_guard lock(mu_);
  ASSIGN_OR_RETURN(cudaEvent_t const event, TakeEvent());
  NCCL_CUDA_RETURN_IF_ERROR(cudaEventRecord(event, stream));
  pending_.push_back(
      {.what = fmt::format("{} over ranks {}", where.ToString(), JoinRanks(comms_[handle].ranks)),
       .event = event,
       .since = Clock::now()});
  if (pending_.size() == 1) woken_.notify_all();
  return absl::OkStatus();
}

absl::Status NcclState::Wait(const Where& where, cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  {
    std::lock_guard lock(mu_);
    ASSIGN_OR_RETURN(event, TakeEvent());
  }
  NCCL_CUDA_RETURN_IF_ERROR(cudaEventRecord(event, stream));
  Backoff backoff(/*crowded=*/false);
  cudaError_t state = cudaErrorNotReady;
  // After a failure the watchdog aborts the communicators and the stream runs dry: the event comes all the
  // same.
  while ((state = cudaEventQuery(event)) == cudaErrorNotReady) backoff.Pause();
  {
    std::lock_guard lock(mu_);
    spare_events_.push_back(event);
  }
  RETURN_IF_ERROR(Check(where));
  return CudaStatus(state, "cudaEventQuery");
}

void NcclState::Watch() {
  static_cast<void>(cudaSetDevice(gpu_));
  std::unique_lock lock(mu_);
  while (!ending_) {
    woken_.wait_for(lock, kLook);
    if (aborted_) continue;
    if (const absl::Status status = LookOnce(); !status.ok()) static_cast<void>(failure_->Set(status));
    if (!failure_->failed()) continue;
    lock.unlock();
    AbortCommunicators();
    lock.lock();
  }
}

// Called with mu_ held.
absl::Status NcclState::LookOnce() {
  const auto now = Clock::now();
  for (auto it = pending_.begin(); it != pending_.end();) {
    const cudaError_t state = cudaEventQuery(it->event);
    if (state == cudaErrorNotReady) {
      if (now - it->since > options_.deadline) {
        return DeadlineExceeded("{}: not finished within {} ms: at least one rank did not come or is gone",
                                it->what, options_.deadline.count());
      }
      ++it;
      continue;
    }
    RETURN_IF_ERROR(Annotate(CudaStatus(state, "cudaEventQuery"), it->what));
    spare_events_.push_back(it->event);
    it = pending_.erase(it);
  }
  for (const Comm& c : comms_) {
    if (c.comm == nullptr || !c.connected) continue;
    ncclResult_t state = ncclSuccess;
    if (library_->async_error(c.comm, &state) != ncclSuccess) continue;
    if (state != ncclSuccess && state != ncclInProgress) {
      return Unavailable("NCCL over ranks {}: {}; a rank may be gone", JoinRanks(c.ranks),
                         library_->Explain(state, c.comm));
    }
  }
  return absl::OkStatus();
}

void NcclState::AbortCommunicators() {
  std::lock_guard lock(mu_);
  aborted_ = true;
  for (Comm& c : comms_) {
    if (c.comm != nullptr) static_cast<void>(library_->abort(std::exchange(c.comm, nullptr)));
  }
}

}  // namespace fulger
