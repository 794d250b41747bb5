#include "worker/doctor/examiner.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/run_list.h"
#include "worker/comm/fabric_factory.h"
#include "worker/comm/launcher.h"
#include "worker/doctor/checkpoint_probe.h"
#include "worker/doctor/machine.h"
#include "worker/doctor/pair.h"

namespace fulger {
namespace {

constexpr size_t kQueue = 16;
constexpr char kWaiting[] = "waiting for the coordinator";
constexpr auto kLastSends = std::chrono::seconds(2);
// For opening files, on top of the reading.
constexpr auto kFilesDeadline = std::chrono::milliseconds(10000);

}  // namespace

Examiner::Examiner(int rank, uint64_t epoch, ExaminerOptions options, Send send, Unreached unreached,
                   MakeRendezvous make_rendezvous)
    : rank_(rank),
      epoch_(epoch),
      options_(std::move(options)),
      send_(std::move(send)),
      unreached_(std::move(unreached)),
      make_rendezvous_(std::move(make_rendezvous)),
      steps_(kQueue) {
  thread_ = std::thread([this] { Main(); });
}

Examiner::~Examiner() {
  steps_.Close();
  thread_.join();
}

std::string Examiner::activity() const {
  std::lock_guard lock(mu_);
  return doing_;
}

void Examiner::Doing(std::string what) {
  std::lock_guard lock(mu_);
  doing_ = std::move(what);
}

void Examiner::Main() {
  bool failed = false;
  while (const auto step = steps_.Pop()) {
    busy_ = true;
    v1::WorkerMessage message;
    message.set_epoch(epoch_);
    message.set_rank(rank_);
    v1::Examined* found = message.mutable_examined();
    const absl::Status status = Run(*step, found);
    if (!status.ok()) found->set_error(Message(status));
    failed = failed || !status.ok() || !found->checkpoint().hung().empty();
    busy_ = failed;
    Doing(kWaiting);
    send_(message);
  }
  fabric_.reset();  // ends MPI, in the thread that started it
}

absl::Status Examiner::Run(const v1::Examine& step, v1::Examined* found) {
  switch (step.step_case()) {
    case v1::Examine::kLook:
      return Look(step.look(), found);
    case v1::Examine::kConnect:
      return Connect(step.connect(), found);
    case v1::Examine::kMeasure:
      found->set_round(step.measure().round());
      return Measure(step.measure(), found);
    default:
      return Unimplemented("a step that this worker does not know: start all from one build");
  }
}

absl::Status Examiner::Look(const v1::Look& look, v1::Examined* found) {
  Doing("looking at the node");
  v1::RankFacts* rank = found->mutable_rank();
  const std::vector<int> cores = AllowedCores();
  rank->set_allowed_cores(static_cast<int32_t>(cores.size()));
  rank->set_cores(RunList(cores));
  rank->set_mpi_version(MpiLibraryVersion());
  rank->set_mpi_library(LoadedLibrary("libmpi"));
  ASSIGN_OR_RETURN(const Launcher launcher, ProbeLauncher());
  rank->set_launcher(std::string(launcher.name));
  if (look.node()) *found->mutable_node() = LookAtNode(options_.host);
  Doing("looking at the device");
  absl::StatusOr<std::unique_ptr<Device>> device =
      MakeDevice(options_.device, {.threads = options_.threads, .kernels = options_.kernels});
  const absl::Status made = device.status();
  if (made.ok()) {
    device_ = *std::move(device);
    rank->set_device(device_->Describe());
    rank->set_arithmetic(device_->Arithmetic());
  }
  const std::string& dir =
      options_.model_dir_override.empty() ? look.model_dir() : options_.model_dir_override;
  if (look.node() && !dir.empty()) {
    Doing(fmt::format("looking at {}", dir));
    const auto reading = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::duration<double>(look.read_seconds()));
    *found->mutable_checkpoint() = ProbeCheckpoint(
        {.dir = dir, .read_seconds = look.read_seconds(), .reader = look.reader(), .readers = look.readers()},
        kFilesDeadline + reading);
  }
  return made;
}

absl::Status Examiner::Connect(const v1::Connect& connect, v1::Examined* found) {
  const std::vector<std::string> addresses(connect.peer_addresses().begin(), connect.peer_addresses().end());
  if (device_ == nullptr) return FailedPrecondition("without its device this rank cannot connect");
  Doing("reaching the other hosts");
  for (const absl::Status& failure : unreached_(rank_, addresses)) found->add_unreachable(Message(failure));
  // MPI would hang. The coordinator asks again, to be connected, when it knows that all reach all.
  if (connect.transport().empty() || found->unreachable_size() > 0) return absl::OkStatus();
  Doing("connecting ranks");
  const auto deadline =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(connect.seconds()));
  const std::string device = device_->name();
  ASSIGN_OR_RETURN(fabric_,
                   MakeFabric(connect.transport(), {.deadline = deadline},
                              {.rank = rank_,
                               .size = static_cast<int>(addresses.size()),
                               .gpu = device.starts_with("cuda:") ? std::atoi(device.c_str() + 5) : 0,
                               .rendezvous = make_rendezvous_(addresses),
                               .library = options_.nccl_library}));
  if (fabric_->rank() == rank_ && fabric_->size() == static_cast<int>(addresses.size()))
    return absl::OkStatus();
  return FailedPrecondition("transport {} sees rank {} of {}, the coordinator assigned rank {} of {}",
                            fabric_->name(), fabric_->rank(), fabric_->size(), rank_, addresses.size());
}

absl::Status Examiner::Measure(const v1::Measure& measure, v1::Examined* found) {
  if (fabric_ == nullptr) return FailedPrecondition("this rank is not connected");
  Doing(fmt::format("measuring the way to rank {}", measure.partner()));
  ASSIGN_OR_RETURN(*found->mutable_pair(), MeasurePair(*fabric_, *device_, measure));
  // Nothing may wait for this rank while it waits for its next step.
  const auto end = std::chrono::steady_clock::now() + kLastSends;
  while (true) {
    ASSIGN_OR_RETURN(const bool done, fabric_->Progress());
    if (done) return absl::OkStatus();
    if (std::chrono::steady_clock::now() >= end) {
      return DeadlineExceeded("rank {} does not take the last messages of this rank", measure.partner());
    }
    std::this_thread::yield();
  }
}

}  // namespace fulger
