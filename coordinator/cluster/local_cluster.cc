#include "coordinator/cluster/local_cluster.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/log.h"

namespace fulger {
namespace {

constexpr auto kTick = std::chrono::seconds(1);
constexpr auto kStableAfter = std::chrono::seconds(60);
constexpr double kStopGraceSeconds = 5;
constexpr Duration kOwnLaunch = std::chrono::seconds(120);

}  // namespace

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Create(const Plan& plan,
                                                                   const ClusterOptions& options,
                                                                   const Clock* clock) {
  std::unique_ptr<LocalCluster> cluster(new LocalCluster());
  cluster->options_ = options;
  if (Duration& launch = cluster->options_.replica.startup.launch;
      !options.wait_for_workers && launch == Duration(0)) {
    launch = kOwnLaunch;
  }
  cluster->replica_ = std::make_unique<Replica>(plan, cluster->options_.replica, clock);
  std::string address = options.control_address;
  if (address.empty() && plan.layout.ranks() == 1) {
    std::array<char, 32> folder{"/tmp/fulger-XXXXXX"};
    if (::mkdtemp(folder.data()) == nullptr)
      return Unavailable("cannot make a folder under /tmp for the control socket");
    cluster->socket_folder_ = folder.data();
    address = "unix:" + cluster->socket_folder_ + "/control";
  } else if (address.empty()) {
    address = "127.0.0.1:0";
  }
  ASSIGN_OR_RETURN(cluster->server_, JoinServer::Start(address, cluster->replica_.get()));
  cluster->options_.launch.control_address = cluster->server_->address();
  cluster->options_.launch.ranks = plan.layout.ranks();
  cluster->options_.launch.mpi = options.replica.transport == "mpi";
  cluster->replica_->SetOnFailure([c = cluster.get()](const absl::Status&) { c->OnFailure(); });
  return cluster;
}

LocalCluster::~LocalCluster() {
  Stop("stopping");
  if (!socket_folder_.empty()) {
    std::error_code ignored;
    std::filesystem::remove_all(socket_folder_, ignored);
  }
}

absl::Status LocalCluster::Launch() {
  if (options_.wait_for_workers) {
    LogInfo("waiting for {} workers to dial {}", options_.launch.ranks, control_address());
    return absl::OkStatus();
  }
  const std::vector<LaunchCommand> commands = MakeLaunchCommands(
      options_.launch, ::geteuid() == 0, static_cast<int>(std::thread::hardware_concurrency()));
  uint64_t launch = 0;
  {
    std::lock_guard lock(mu_);
    launch = ++launches_;
    exited_.clear();
  }
  for (size_t i = 0; i < commands.size(); ++i) {
    LogDebug("starting {}", fmt::join(commands[i].arguments, " "));
    const std::string who = options_.launch.mpi   ? "mpirun"
                            : commands.size() > 1 ? fmt::format("the worker of rank {}", i)
                                                  : "the worker";
    ASSIGN_OR_RETURN(auto child,
                     ChildProcess::Start(commands[i], [this, launch, who](const std::string& how) {
                       OnExit(launch, who, how);
                     }));
    workers_.push_back(std::move(child));
  }
  return absl::OkStatus();
}

absl::Status LocalCluster::Start() {
  RETURN_IF_ERROR(Launch());
  watchdog_ = std::thread([this] { Watch(); });
  return absl::OkStatus();
}

void LocalCluster::OnExit(uint64_t launch, const std::string& who, const std::string& how) {
  std::lock_guard lock(mu_);
  if (launch != launches_ || stopping_ || relaunch_) return;  // known already, or meant
  if (!exited_.empty()) return;                               // the first is the cause
  exited_ = fmt::format("{} {}", who, how);
  exited_at_ = std::chrono::steady_clock::now();
}

void LocalCluster::OnFailure() {
  std::lock_guard lock(mu_);
  if (relaunch_ || stopping_) return;
  relaunch_ = true;
  ++failures_in_a_row_;
  wake_.notify_all();
}

void LocalCluster::GiveUpLocked(absl::Status why) {
  gave_up_ = std::move(why);
  LogError("{}", Message(gave_up_));
  wake_.notify_all();
}

void LocalCluster::EndWorkers() {
  for (const auto& worker : workers_) worker->Terminate();  // all at once: each may take its time
  workers_.clear();
}

// False: no more.
bool LocalCluster::Relaunch(std::unique_lock<std::mutex>& lock) {
  if (!options_.wait_for_workers || options_.replica.startup.launch > Duration(0)) {
    const ReplicaInfo info = replica_->Info();
    if (!info.ever_served) {
      GiveUpLocked(Unavailable("the replica did not start: {}", info.last_failure));
      return false;
    }
    if (failures_in_a_row_ > options_.max_restarts_in_a_row) {
      GiveUpLocked(Unavailable("the replica failed {} times in a row; last: {}", failures_in_a_row_,
                               info.last_failure));
      return false;
    }
    // 0, 1, 2, 4, ... seconds between failures that follow each other. Whoever starts workers from outside
    // paces himself.
    const bool at_once = options_.wait_for_workers || failures_in_a_row_ <= 1;
    const auto pause = std::chrono::seconds(at_once ? 0 : 1 << (failures_in_a_row_ - 2));
    wake_.wait_for(lock, pause, [this] { return stopping_; });
    if (stopping_) return false;
  }
  lock.unlock();
  EndWorkers();  // what is left of the old ranks; relaunch_ says that this is no other failure
  lock.lock();
  relaunch_ = false;
  lock.unlock();
  const absl::Status launched = Launch();
  lock.lock();
  if (!launched.ok()) GiveUpLocked(launched);
  return launched.ok();
}

void LocalCluster::Watch() {
  auto serving_since = std::chrono::steady_clock::now();
  std::unique_lock lock(mu_);
  while (!stopping_) {
    wake_.wait_for(lock, kTick, [this] { return stopping_ || relaunch_; });
    if (stopping_) return;
    if (relaunch_) {
      if (!Relaunch(lock)) return;
      serving_since = std::chrono::steady_clock::now();
      continue;
    }
    const auto now = std::chrono::steady_clock::now();
    // A rank that joined is missed by its stream first, with its name; this is for the others.
    std::string exited;
    if (!exited_.empty() && now - exited_at_ >= kTick) exited = std::exchange(exited_, {});
    lock.unlock();
    if (!exited.empty()) replica_->Fail(Unavailable("{}", exited));
    replica_->Tick();
    const bool serving = replica_->Info().phase == ReplicaPhase::kServing;
    lock.lock();
    if (!serving) {
      serving_since = now;
    } else if (now - serving_since > kStableAfter) {
      failures_in_a_row_ = 0;
    }
  }
}

absl::Status LocalCluster::health() const {
  std::lock_guard lock(mu_);
  return gave_up_;
}

absl::Status LocalCluster::WaitUntilServing(Duration timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  std::unique_lock lock(mu_);
  while (true) {
    if (!gave_up_.ok()) return gave_up_;
    lock.unlock();
    const ReplicaInfo info = replica_->Info();
    lock.lock();
    if (info.phase == ReplicaPhase::kServing) return absl::OkStatus();
    if (stopping_) return Cancelled("stopping");
    if (std::chrono::steady_clock::now() >= end) {
      return DeadlineExceeded("the replica is still {} after {:.0f} s", Name(info.phase), Seconds(timeout));
    }
    wake_.wait_for(lock, std::chrono::milliseconds(20));
  }
}

void LocalCluster::Stop(const std::string& reason) {
  {
    std::lock_guard lock(mu_);
    if (stopping_) return;
    stopping_ = true;
    wake_.notify_all();
  }
  replica_->Stop(reason);
  if (watchdog_.joinable()) watchdog_.join();
  const auto grace_end = std::chrono::steady_clock::now() + std::chrono::duration<double>(kStopGraceSeconds);
  for (const auto& worker : workers_) {
    worker->Stop(
        std::max(0.0, std::chrono::duration<double>(grace_end - std::chrono::steady_clock::now()).count()));
  }
  EndWorkers();
  server_.reset();
}

}  // namespace fulger
