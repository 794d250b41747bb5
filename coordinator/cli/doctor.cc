// fulger doctor: the checks of a start without a start. What is wrong, on which node, and how to mend it, in
// under a minute.
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/device_list.h"
#include "base/file.h"
#include "base/log.h"
#include "base/version.h"
#include "coordinator/cli/address.h"
#include "coordinator/cli/bench_output.h"
#include "coordinator/cli/checkpoint_facts.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/deployment.h"
#include "coordinator/doctor/examination.h"
#include "coordinator/doctor/ports.h"
#include "coordinator/doctor/report.h"

namespace fulger {
namespace {

constexpr auto kNap = std::chrono::milliseconds(20);
constexpr auto kShow = std::chrono::milliseconds(500);
// What a rank says before it ends says more than how its launcher ended.
constexpr auto kLauncherGrace = std::chrono::seconds(1);
constexpr double kStopSeconds = 5;

struct Flags {
  DeploymentFlags deployment;
  int ranks = 0;
  std::string hosts;
  std::string listen = "127.0.0.1:8000", grpc;
  double read_seconds = 3, measure_seconds = 12;
  bool all = false, json = false;
  std::string html;
};

// "h1,h2:4" is five.
absl::StatusOr<int> SlotsOf(const std::string& hosts) {
  int slots = 0;
  for (size_t begin = 0; begin <= hosts.size();) {
    const size_t end = std::min(hosts.find(',', begin), hosts.size());
    const std::string host = hosts.substr(begin, end - begin);
    const size_t colon = host.find(':');
    int count = 1;
    if (colon != std::string::npos) {
      const char* const last = host.data() + host.size();
      const auto [rest, error] = std::from_chars(host.data() + colon + 1, last, count);
      if (error != std::errc() || rest != last) count = 0;
    }
    if (host.empty() || colon == 0 || count < 1) {
      return InvalidArgument("--hosts {}: expected HOST or HOST:RANKS, found \"{}\"", hosts, host);
    }
    slots += count;
    begin = end + 1;
  }
  return slots;
}

Finding Bad(const std::string& check, const std::string& found, const std::string& cause,
            const std::string& cure) {
  return {.level = Level::kFail, .check = check, .found = found, .cause = cause, .cure = cure};
}

// The checkpoint as the coordinator sees it, and what a layout asks of every rank.
class Checkup {
 public:
  explicit Checkup(const Flags& flags) : flags_(flags) {}

  void Run() {
    if (!flags_.deployment.model_dir.empty()) Model();
    Port("--listen", flags_.listen);
    if (!flags_.grpc.empty()) Port("--grpc", flags_.grpc);
    if (!flags_.deployment.control.empty()) Port("--control", flags_.deployment.control);
  }

  // Of the layout; 0: not known.
  int ranks() const { return ranks_; }
  bool control_free() const { return control_free_; }
  const Needs& needs() const { return needs_; }
  std::vector<Finding>& findings() { return findings_; }

 private:
  void Model() {
    const absl::Status status = Plan();
    if (!status.ok()) {
      findings_.push_back(Bad("model", Message(status),
                              "the coordinator would not get as far as starting ranks",
                              "fulger inspect DIR for the checkpoint, fulger plan for a layout that fits"));
    }
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      const std::string path = flags_.deployment.model_dir + "/" + name;
      if (FileExists(path)) continue;
      findings_.push_back(
          Bad("model", path + " is not there", "the server cannot turn text into tokens", "fetch it again"));
    }
  }

  absl::Status Plan() {
    const DeploymentFlags& d = flags_.deployment;
    ASSIGN_OR_RETURN(const DeviceList devices, ParseDeviceList(d.device));
    ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(d.model_dir));
    ASSIGN_OR_RETURN(const CheckpointFacts facts,
                     ReadCheckpointFacts(d.model_dir, config, d.allow_stale_copy));
    ASSIGN_OR_RETURN(const Layout layout, ChooseLayout(d.layout, facts));
    // Without a layout, and with ranks that others start: their number is not known yet.
    const bool asked = layout.ranks() > 1 || (!d.wait_for_workers && flags_.hosts.empty());
    if (asked && flags_.ranks == 0) ranks_ = layout.ranks();
    needs_.fingerprint = facts.fingerprint;
    if (!asked || flags_.ranks > 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(const auto plan, MakePlan(config, layout));
    const std::vector<TensorSpec> table = TensorTable(config);
    const DType held = d.weight_dtype == "f32" ? DType::kF32 : facts.dtype;
    const MemoryWishes wishes{.max_context = d.max_context,
                              .cache_tokens = d.cache_tokens,
                              .max_sequences = d.max_sequences,
                              .anchors = d.anchors,
                              .block_size = d.block_size,
                              .weights = held,
                              .ranks_decide = devices.gpu,
                              .available = d.wait_for_workers ? 0 : AvailableMemory()};
    ASSIGN_OR_RETURN(const MemoryBudget budget, PlanMemoryBudget(config, plan, table, wishes));
    const CacheSizes sizes{.blocks = budget.cache_tokens / d.block_size,
                           .block_size = d.block_size,
                           .slots = d.max_sequences + d.anchors,
                           .max_step_tokens = d.max_step_tokens};
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      const RankMemory memory =
          MemoryOfRank(config, plan, table, rank, std::vector<DType>(table.size(), held), sizes);
      if (!devices.gpu) needs_.memory[rank] = memory.total();
      needs_.weights[rank] = memory.weight_total();
    }
    findings_.push_back({.level = Level::kOk,
                         .check = "model",
                         .found = fmt::format("{}: {}, layout {}; {}", d.model_dir, config.model_type,
                                              ToString(plan.layout), budget.arithmetic)});
    return absl::OkStatus();
  }

  void Port(const std::string& flag, const std::string& text) {
    const absl::StatusOr<SocketAddress> address = ParseAddress(flag, text);
    const absl::Status free = address.ok() ? CheckPort(address->host, address->port) : address.status();
    if (free.ok()) {
      findings_.push_back(
          {.level = Level::kOk, .check = "ports", .found = fmt::format("{} {} is free", flag, text)});
      return;
    }
    if (flag == "--control") control_free_ = false;
    const bool taken = free.code() == absl::StatusCode::kUnavailable;
    findings_.push_back(Bad(
        "ports", fmt::format("{} {}: {}", flag, text, Message(free)),
        taken ? "another server runs there, perhaps an earlier one of yours" : "no server can listen there",
        taken ? "end it, or choose another port"
              : "an address of this host, or 0.0.0.0, and a port above 1023"));
    // A port that nobody asked for may be taken by the very server that one wants to look after.
    if (flag == "--listen" && taken && !flags_.deployment.wait_for_workers)
      findings_.back().level = Level::kWarn;
  }

  const Flags& flags_;
  int ranks_ = 0;
  bool control_free_ = true;
  Needs needs_;
  std::vector<Finding> findings_;
};

// The workers, if we start them, and how they ended.
class Workers {
 public:
  absl::Status Start(const LaunchSpec& spec) {
    const auto cores = static_cast<int>(std::thread::hardware_concurrency());
    for (const LaunchCommand& command : MakeLaunchCommands(spec, ::geteuid() == 0, cores)) {
      ASSIGN_OR_RETURN(auto child,
                       ChildProcess::Start(command, [this, mpi = spec.mpi](const std::string& how) {
                         std::lock_guard lock(mu_);
                         ended_ = fmt::format("{} {}", mpi ? "mpirun" : "the worker", how);
                         ended_at_ = std::chrono::steady_clock::now();
                       }));
      children_.push_back(std::move(child));
    }
    return absl::OkStatus();
  }
  std::optional<std::string> EndedForAWhile() const {
    std::lock_guard lock(mu_);
    if (ended_.empty() || std::chrono::steady_clock::now() - ended_at_ < kLauncherGrace) return std::nullopt;
    return ended_;
  }
  void Stop() {
    for (const auto& child : children_) child->Stop(kStopSeconds);
  }

 private:
  mutable std::mutex mu_;
  std::string ended_;
  std::chrono::steady_clock::time_point ended_at_;
  std::vector<std::unique_ptr<ChildProcess>> children_;  // whose threads use what is above
};

// Until it is done; shows how far it is.
void Watch(Examination* examination, const Workers& workers) {
  std::string shown;
  auto last = std::chrono::steady_clock::now();
  while (!examination->done()) {
    examination->Tick();
    if (const auto ended = workers.EndedForAWhile()) examination->OnLauncherEnded(*ended);
    const auto now = std::chrono::steady_clock::now();
    const std::string progress = examination->Progress();
    if (progress != shown && now - last >= kShow) {
      ShowProgressLine(progress);
      shown = progress;
      last = now;
    }
    std::this_thread::sleep_for(kNap);
  }
  if (!shown.empty() && ::isatty(2) != 0) std::fputs("\n", stderr);
}

absl::StatusOr<ExamReport> Examine(const Flags& flags) {
  const DeploymentFlags& d = flags.deployment;
  Checkup checkup(flags);
  checkup.Run();
  ExaminationOptions options{.version = kVersion,
                             .ranks = flags.ranks > 0 ? flags.ranks : checkup.ranks(),
                             .transport = d.transport,
                             .read_seconds = flags.read_seconds,
                             .measure_seconds = flags.measure_seconds};
  if (!d.model_dir.empty())
    options.model_dir = std::filesystem::absolute(d.model_dir).lexically_normal().string();
  if (!flags.hosts.empty()) {
    ASSIGN_OR_RETURN(const int slots, SlotsOf(flags.hosts));
    if (options.ranks == 0) options.ranks = slots;
  }
  if (options.ranks == 0 && !d.wait_for_workers) options.ranks = d.layout.tp * d.layout.pp + d.layout.vision;
  ASSIGN_OR_RETURN(const DeviceList devices, ParseDeviceList(d.device));
  if (options.ranks > 1 && options.transport.empty()) options.transport = devices.gpu ? "nccl" : "mpi";
  if (d.launch_seconds > 0) options.launch = std::chrono::seconds(d.launch_seconds);
  options.join = std::min<Duration>(options.join, std::chrono::seconds(d.join_seconds));

  SteadyClock clock;
  Examination examination(options, &clock);
  ExamRecord record;
  // With the port taken nobody can join from elsewhere; those that we start ourselves take another one.
  if (checkup.control_free() || !d.wait_for_workers) {
    const bool given = !d.control.empty() && checkup.control_free();
    const std::string any = flags.hosts.empty() ? "127.0.0.1:0" : "0.0.0.0:0";
    ASSIGN_OR_RETURN(auto server, JoinServer::Start(given ? d.control : any, &examination));
    std::string dialled = server->address();
    if (dialled.starts_with("0.0.0.0:")) dialled = OwnAddress() + dialled.substr(dialled.rfind(':'));
    Workers workers;
    if (d.wait_for_workers) {
      std::fprintf(stderr, "waiting for %s to dial %s: fulger-worker --coordinator %s, by mpirun or srun\n",
                   options.ranks > 0 ? fmt::format("{} workers", options.ranks).c_str() : "workers",
                   server->address().c_str(), dialled.c_str());
    } else {
      LaunchSpec launch{
          .worker_binary = d.worker_binary.empty() ? BesideThisProgram("fulger-worker") : d.worker_binary,
          .control_address = dialled,
          .ranks = options.ranks,
          .mpi = (options.ranks > 1 && !devices.gpu) || !flags.hosts.empty(),
          .devices = {},
          .ranks_per_device = d.ranks_per_device,
          .hosts = flags.hosts};
      ASSIGN_OR_RETURN(launch.devices, DevicesAt(devices, 0, options.ranks, d.ranks_per_device));
      if (d.kernels != "auto") launch.extra_arguments = {"--kernels", d.kernels};
      const absl::Status started = workers.Start(launch);
      if (!started.ok()) {
        checkup.findings().push_back(
            Bad("launch", Message(started), "no rank can be started on this host",
                "install Open MPI, or load its module; make builds fulger-worker beside fulger"));
        examination.OnLauncherEnded(Message(started));
      }
    }
    Watch(&examination, workers);
    record = examination.Record();
    examination.Dismiss();
    workers.Stop();
  } else {
    record.ended = "no node was examined: workers cannot dial --control";
  }
  ExamReport report = Judge(record, checkup.needs(), std::move(checkup.findings()));
  report.version = kVersion;
  return report;
}

// OK: nothing failed.
absl::StatusOr<bool> RunDoctor(const Flags& flags) {
  ASSIGN_OR_RETURN(const ExamReport report, Examine(flags));
  if (flags.json) {
    std::printf(
        "%s\n",
        ReportJson(report).dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
  } else {
    std::fputs(ReportText(report, flags.all, ::isatty(1) != 0).c_str(), stdout);
  }
  if (!flags.html.empty()) RETURN_IF_ERROR(WriteResult(flags.html, ReportHtml(report)));
  return report.level() != Level::kFail;
}

}  // namespace

void AddDoctor(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app->add_subcommand("doctor", "what keeps a deployment from starting or makes it slow, node by node");
  AddDeploymentFlags(command, &flags->deployment, "warn");
  command->get_option("--model")->required(false);
  command
      ->add_option("--ranks", flags->ranks,
                   "ranks without a layout; default: the layout's, or with --wait-for-workers as many as "
                   "their launcher started")
      ->check(CLI::PositiveNumber);
  command->add_option("--listen", flags->listen, "ADDR:PORT that the HTTP API will listen on: is it free?")
      ->capture_default_str();
  command->add_option("--grpc", flags->grpc, "ADDR:PORT of the gRPC API: is it free?");
  command
      ->add_option("--read-seconds", flags->read_seconds,
                   "how long each node reads from the checkpoint; 0: not at all")
      ->check(CLI::Range(0.0, 20.0))
      ->capture_default_str();
  command
      ->add_option("--measure-seconds", flags->measure_seconds,
                   "about how long the ways between ranks are measured")
      ->check(CLI::Range(0.1, 600.0))
      ->capture_default_str();
  command->add_option("--hosts", flags->hosts,
                      "start the ranks there by mpirun (ssh, or the scheduler's way): HOST or HOST:RANKS, "
                      "with commas between");
  command->add_flag("--all", flags->all,
                    "a table for every node, also where there are many and nothing was found");
  command->add_flag("--json", flags->json, "print one JSON object");
  command->add_option("--html", flags->html,
                      "also write a page with heat maps of bandwidth and latency to this file");
  command->footer(
      "Takes the flags of serve: on a cluster, run it in place of serve (--wait-for-workers --control ...), "
      "with the same "
      "mpirun or srun of fulger-worker.\nExit code 0: no FAIL; 1: something will fail.");
  command->callback([flags, exit_code] {
    StartLogging(flags->deployment);
    const auto well = RunDoctor(*flags);
    if (!well.ok()) std::fprintf(stderr, "fulger doctor: %s\n", Message(well.status()).c_str());
    *exit_code = well.ok() && *well ? 0 : 1;
  });
}

}  // namespace fulger
