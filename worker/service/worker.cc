#include "worker/service/worker.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "base/device_list.h"
#include "base/log.h"
#include "base/version.h"
#include "base/wall_clock.h"
#include "worker/comm/launcher.h"
#include "worker/doctor/examiner.h"
#include "worker/service/control_client.h"
#include "worker/service/peer_rendezvous.h"
#include "worker/service/peer_server.h"
#include "worker/service/picture_assembler.h"
#include "worker/service/reach.h"

namespace fulger {
namespace {

constexpr auto kFollowDeadline = std::chrono::milliseconds(120000);
constexpr auto kReachDeadline = std::chrono::milliseconds(15000);
constexpr auto kExamineReachDeadline =
    std::chrono::milliseconds(5000);  // `fulger doctor` has a minute for all

std::string HostName() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

bool IsLocal(const std::string& address) {
  return address.starts_with("unix:") || address.starts_with("127.") || address.starts_with("localhost:") ||
         address.starts_with("[::1]");
}

class Worker {
 public:
  explicit Worker(const WorkerOptions& options) : options_(options) {}

  int Run() {
    const absl::Status status = Join();
    if (!status.ok()) {
      LogError("{}", Message(status));
      return 1;
    }
    return Loop();
  }

 private:
  absl::Status Join() {
    host_ = options_.host;
    ASSIGN_OR_RETURN(const Launcher launcher, ProbeLauncher());
    const int rank = options_.rank >= 0 ? options_.rank : launcher.size > 0 ? launcher.rank : -1;
    const std::string who = rank >= 0 ? fmt::format("rank {} on host {}", rank, HostName())
                                      : fmt::format("a worker on host {}", HostName());
    ASSIGN_OR_RETURN(const DeviceList devices, ParseDeviceList(options_.device));
    ASSIGN_OR_RETURN(device_, ChooseDevice(devices, launcher));
    const bool gpu = devices.gpu;
    if (!gpu && launcher.size > 1 && !launcher.pmi) {
      return FailedPrecondition(
          "launch: {} of {} was started by srun without a PMI (--mpi=none, or a default that is none), so "
          "MPI cannot "
          "find the other ranks. {}; srun --mpi=list has the plugins",
          who, launcher.size, kStartMpiRanks);
    }
    ASSIGN_OR_RETURN(control_, ControlClient::Connect(options_.coordinator, who, options_.join_deadline));
    if (host_.empty() && IsLocal(options_.coordinator)) host_ = "127.0.0.1";
    if (host_.empty()) host_ = OwnAddressTowards(options_.coordinator);
    if (host_.empty()) host_ = HostName();
    ASSIGN_OR_RETURN(peers_, PeerServer::Start(host_));
    v1::WorkerMessage message;
    v1::Hello* hello = message.mutable_hello();
    hello->set_version(kVersion);
    hello->set_rank_hint(rank);
    hello->set_world_hint(launcher.size);
    hello->set_host(HostName());
    hello->set_pid(::getpid());
    hello->set_device(device_);
    hello->set_transport(gpu ? "nccl" : launcher.size <= 1 ? "single" : "mpi");
    hello->set_peer_address(peers_->address());
    if (!control_->Send(message)) return Unavailable("rendezvous: the coordinator hung up");
    return absl::OkStatus();
  }

  // One GPU is this process's, whoever runs beside it; of several it takes the one of its place on the host.
  absl::StatusOr<std::string> ChooseDevice(const DeviceList& devices, const Launcher& launcher) const {
    const bool exact = devices.ordinals.size() == 1;
    const int place = exact || launcher.local_rank < 0 ? 0 : launcher.local_rank;
    const int sharing = devices.ordinals.empty() ? options_.executor.ranks_per_device : 1;
    return DeviceAt(devices, place, sharing);
  }

  int Loop() {
    v1::CoordinatorMessage message;
    while (control_->Receive(&message)) {
      switch (message.body_case()) {
        case v1::CoordinatorMessage::kAssign:
          Start(message);
          break;
        case v1::CoordinatorMessage::kExamine:
          Examine(message);
          break;
        case v1::CoordinatorMessage::kPing:
          Answer(message.ping());
          break;
        case v1::CoordinatorMessage::kShutdown:
          return End(message.shutdown());
        default:
          Dispatch(message);
      }
    }
    LogError("the coordinator at {} is gone", options_.coordinator);
    return EndNow("the coordinator is gone");
  }

  void Start(const v1::CoordinatorMessage& message) {
    const v1::Assign& assign = message.assign();
    InitLogging(fmt::format("rank {}", assign.rank()));
    rank_ = assign.rank();
    rendezvous_.emplace(
        *peers_, std::vector<std::string>(assign.peer_addresses().begin(), assign.peer_addresses().end()));
    ExecutorOptions executor_options = options_.executor;
    executor_options.device = device_;
    executor_.emplace(
        assign, message.epoch(), executor_options, [this](const v1::WorkerMessage& m) { control_->Send(m); },
        [this](int count) { return peers_->WaitForFollowers(count, kFollowDeadline); },
        [addresses = std::vector<std::string>(assign.peer_addresses().begin(), assign.peer_addresses().end()),
         rank = rank_] { return ReachHosts(rank, addresses, kReachDeadline); },
        *rendezvous_);
    const v1::LayoutSpec& layout = assign.layout();
    const int stage = rank_ / layout.tp();
    const int leader = stage * layout.tp();
    if (stage < layout.pp() && rank_ != leader) {
      // Ends with its peer or with the process.
      std::thread([this, address = assign.peer_addresses(leader)] { Follow(address); }).detach();
    }
  }

  // `fulger doctor` is at the other end: no model, no steps.
  void Examine(const v1::CoordinatorMessage& message) {
    if (!examiner_.has_value()) {
      rank_ = message.examine().rank();
      InitLogging(fmt::format("rank {}", rank_), LogLevel::kWarn);
      examiner_.emplace(
          rank_, message.epoch(),
          ExaminerOptions{.device = device_,
                          .threads = options_.executor.threads,
                          .kernels = options_.executor.kernels,
                          .nccl_library = options_.executor.nccl_library,
                          .model_dir_override = options_.executor.model_dir_override,
                          .host = host_},
          [this](const v1::WorkerMessage& m) { control_->Send(m); },
          [](int rank, std::span<const std::string> addresses) {
            return UnreachedHosts(rank, addresses, kExamineReachDeadline);
          },
          [this](std::span<const std::string> addresses) -> Rendezvous* {
            return &rendezvous_.emplace(*peers_,
                                        std::vector<std::string>(addresses.begin(), addresses.end()));
          });
    }
    examiner_->Push(message.examine());
  }

  void Follow(const std::string& address) {
    const absl::Status status =
        FollowPeer(address, rank_, kFollowDeadline, [this](const v1::PeerMessage& m) { OnPeerMessage(m); });
    // A leader that hangs up either stops cleanly or is dead, and the coordinator knows which and says so; a
    // leader that was never reached is news to everybody.
    if (status.code() == absl::StatusCode::kDeadlineExceeded) executor_->Abort(status);
  }

  void OnPeerMessage(const v1::PeerMessage& message) {
    if (stopping_) return;
    switch (message.body_case()) {
      case v1::PeerMessage::kPlan: {
        auto plan = std::make_shared<v1::StepPlan>();
        if (plan->ParseFromString(message.plan())) executor_->Push(std::shared_ptr<const v1::StepPlan>(plan));
        break;
      }
      case v1::PeerMessage::kTiles: {
        v1::TilesPart part;
        if (part.ParseFromString(message.tiles())) AddTiles(part);
        break;
      }
      case v1::PeerMessage::kEvict:
        executor_->Push(Executor::Evict{message.evict()});
        break;
      case v1::PeerMessage::kSave: {
        auto save = std::make_shared<v1::SaveStates>();
        if (save->ParseFromString(message.save())) {
          executor_->Push(std::shared_ptr<const v1::SaveStates>(save));
        }
        break;
      }
      case v1::PeerMessage::kFetch: {
        auto fetch = std::make_shared<v1::FetchState>();
        if (fetch->ParseFromString(message.fetch())) {
          executor_->Push(std::shared_ptr<const v1::FetchState>(fetch));
        }
        break;
      }
      default:
        break;
    }
  }

  void AddTiles(const v1::TilesPart& part) {
    if (auto picture = assembler_.Add(part); picture != nullptr) executor_->Push(std::move(picture));
  }

  // From the coordinator: forward to the stage first, so that all ranks start together.
  void Dispatch(const v1::CoordinatorMessage& message) {
    if (!executor_.has_value()) return;
    v1::PeerMessage forward;
    switch (message.body_case()) {
      case v1::CoordinatorMessage::kPlan:
        forward.set_plan(message.plan().SerializeAsString());
        peers_->Forward(forward);
        executor_->Push(std::make_shared<const v1::StepPlan>(message.plan()));
        break;
      case v1::CoordinatorMessage::kTiles:
        forward.set_tiles(message.tiles().SerializeAsString());
        peers_->Forward(forward);
        AddTiles(message.tiles());
        break;
      case v1::CoordinatorMessage::kEvict:
        for (const std::string& key : message.evict().keys()) {
          forward.set_evict(key);
          peers_->Forward(forward);
          executor_->Push(Executor::Evict{key});
        }
        break;
      case v1::CoordinatorMessage::kSave:
        forward.set_save(message.save().SerializeAsString());
        peers_->Forward(forward);
        executor_->Push(std::make_shared<const v1::SaveStates>(message.save()));
        break;
      case v1::CoordinatorMessage::kFetch:
        forward.set_fetch(message.fetch().SerializeAsString());
        peers_->Forward(forward);
        executor_->Push(std::make_shared<const v1::FetchState>(message.fetch()));
        break;
      case v1::CoordinatorMessage::kWithdraw:
        for (const std::string& key : message.withdraw().keys()) executor_->Push(Executor::Withdraw{key});
        break;
      default:
        break;
    }
  }

  void Answer(const v1::Ping& ping) {
    v1::WorkerMessage message;
    message.set_rank(rank_);
    if (executor_.has_value()) {
      message.set_epoch(epoch());
      message.mutable_pong()->set_activity(executor_->activity());
      message.mutable_pong()->set_last_step(executor_->last_step());
    }
    if (examiner_.has_value()) {
      message.set_epoch(examiner_->epoch());
      message.mutable_pong()->set_activity(examiner_->activity());
    }
    message.mutable_pong()->set_id(ping.id());
    message.mutable_pong()->set_clock_seconds(
        std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count());
    message.mutable_pong()->set_wall_seconds(SystemWallSeconds());
    control_->Send(message);
  }

  uint64_t epoch() const { return executor_->epoch(); }

  int End(const v1::Shutdown& shutdown) {
    if (!shutdown.clean()) {
      LogError("ended by the coordinator: {}", shutdown.reason());
      return EndNow(shutdown.reason());
    }
    LogInfo("stopping: {}", shutdown.reason());
    stopping_ = true;
    peers_->Stop();
    // A rank that still starts may sit in a call that cannot be interrupted (MPI_Init), and holds nothing to
    // keep.
    if (executor_.has_value() && !executor_->ready()) ::_exit(0);
    if (examiner_.has_value() && examiner_->busy()) ::_exit(0);
    examiner_.reset();
    executor_.reset();  // joins, and finalises MPI
    // The follower thread may still sit in its read: nothing is left that a longer way out would save.
    ::_exit(0);
  }

  // Threads may be stuck in a transport whose peers are gone, and MPI cannot be finalised then: leave at
  // once.
  int EndNow(const std::string& why) {
    if (executor_.has_value()) {
      executor_->Abort(Unavailable("{}", why));
      ::_exit(1);
    }
    if (examiner_.has_value()) ::_exit(1);
    return 1;
  }

  const WorkerOptions& options_;
  std::string host_;
  std::string device_;  // "cpu" or "cuda:N"
  int rank_ = -1;
  std::unique_ptr<PeerServer> peers_;
  std::unique_ptr<ControlClient> control_;
  PictureAssembler assembler_;
  std::optional<PeerRendezvous> rendezvous_;
  std::optional<Executor> executor_;
  std::optional<Examiner> examiner_;  // in place of an executor
  std::atomic<bool> stopping_{false};
};

}  // namespace

int RunWorker(const WorkerOptions& options) {
  Worker worker(options);
  return worker.Run();
}

}  // namespace fulger
