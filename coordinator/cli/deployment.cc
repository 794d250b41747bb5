#include "coordinator/cli/deployment.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/version.h"
#include "coordinator/cli/address.h"
#include "coordinator/cli/checkpoint_facts.h"

namespace fulger {
namespace {

// MPI takes the tensors of GPU ranks through host memory, and is never chosen for them unasked.
absl::StatusOr<std::string> ChooseTransport(const DeploymentFlags& flags, bool gpus, int ranks) {
  const std::string several = gpus ? "nccl" : "mpi";
  const std::string transport = !flags.transport.empty() ? flags.transport : ranks == 1 ? "single" : several;
  if (transport == "nccl" && !gpus) return InvalidArgument("--transport nccl needs --device cuda");
  if (transport == "thread") {
    return InvalidArgument(
        "--transport thread joins ranks of one process: tests only. Ranks on CPUs exchange over mpi, on GPUs "
        "over "
        "nccl");
  }
  if (transport == "single" && ranks > 1) {
    return InvalidArgument("--transport single is for one rank; this layout has {}: use {}", ranks, several);
  }
  return transport;
}

absl::Status CheckDevice(const DeploymentFlags& flags, const Layout& layout, const DeviceList& devices) {
  if (!devices.gpu) {
    if (flags.ranks_per_device == 1) return absl::OkStatus();
    return InvalidArgument("--ranks-per-device {} is for --device cuda: ranks on CPUs share them as they are",
                           flags.ranks_per_device);
  }
  for (const auto& [flag, format] :
       {std::pair("--experts", layout.experts), std::pair("--projections", layout.projections)}) {
    if (format == WeightFormat::kStored) continue;
    return InvalidArgument("{} {} runs on CPUs only in this version: leave it out with --device {}", flag,
                           Name(format), flags.device);
  }
  if (flags.kernels != "auto") {
    return InvalidArgument("--kernels {} chooses instructions of a CPU: leave it out with --device {}",
                           flags.kernels, flags.device);
  }
  return absl::OkStatus();
}

std::string FolderName(const std::string& dir) {
  const std::filesystem::path path = std::filesystem::absolute(dir).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

// Each replica has its own listener: PORT, PORT + 1, ...
absl::StatusOr<std::string> ControlAddress(const DeploymentFlags& flags, int index) {
  if (flags.control.empty() || index == 0) return flags.control;
  ASSIGN_OR_RETURN(SocketAddress address, ParseAddress("--control", flags.control));
  if (address.port != 0) address.port = static_cast<uint16_t>(address.port + index);
  return ToString(address);
}

StartupDeadlines StartupOf(const DeploymentFlags& flags) {
  StartupDeadlines startup;
  startup.launch = std::chrono::seconds(flags.launch_seconds);
  startup.rendezvous = std::chrono::seconds(flags.join_seconds);
  if (flags.phase_seconds > 0) {
    startup.device = startup.communicators = startup.load = startup.warm_up =
        std::chrono::seconds(flags.phase_seconds);
  }
  return startup;
}

absl::StatusOr<ClusterOptions> MakeClusterOptions(const DeploymentFlags& flags, const DeviceList& devices,
                                                  const MemoryBudget& budget, const Plan& plan,
                                                  const std::string& transport,
                                                  const std::string& fingerprint, int index) {
  ClusterOptions options;
  ReplicaOptions& replica = options.replica;
  replica.name = std::to_string(index);
  replica.version = kVersion;
  replica.model_dir = std::filesystem::absolute(flags.model_dir).string();
  replica.fingerprint = fingerprint;
  replica.transport = transport;
  replica.gpus = devices.gpu;
  replica.weight_dtype = flags.weight_dtype;
  replica.block_size = flags.block_size;
  replica.max_step_tokens = flags.max_step_tokens;
  replica.max_sequences = flags.max_sequences + flags.anchors;  // slots of both
  replica.cache_tokens = budget.cache_tokens;
  replica.min_cache_tokens = flags.max_context > 0 ? flags.max_context : flags.block_size;
  replica.min_sequences =
      flags.slots_were_named ? replica.max_sequences : 1 + std::min<int64_t>(flags.anchors, 1);
  replica.reserve_bytes = static_cast<int64_t>(flags.reserve_gib * static_cast<double>(int64_t{1} << 30));
  replica.max_context = budget.max_context;
  replica.startup = StartupOf(flags);
  ASSIGN_OR_RETURN(options.control_address, ControlAddress(flags, index));
  options.wait_for_workers = flags.wait_for_workers;
  options.launch.worker_binary =
      flags.worker_binary.empty() ? BesideThisProgram("fulger-worker") : flags.worker_binary;
  if (!flags.wait_for_workers) {  // the ranks of a replica follow those of the replicas before it
    const int ranks = plan.layout.ranks();
    ASSIGN_OR_RETURN(options.launch.devices,
                     DevicesAt(devices, index * ranks, ranks, flags.ranks_per_device));
    options.launch.ranks_per_device = flags.ranks_per_device;
  }
  options.launch.threads_per_rank = flags.threads;
  const auto pass_on = [&](const char* flag, const std::string& value) {
    options.launch.extra_arguments.insert(options.launch.extra_arguments.end(), {flag, value});
  };
  if (flags.kernels != "auto") pass_on("--kernels", flags.kernels);
  if (!flags.nccl_library.empty()) pass_on("--nccl-library", flags.nccl_library);
  if (flags.threads == 0 && flags.replicas > 1) {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    options.launch.threads_per_rank = std::max(1, cores / (plan.layout.ranks() * flags.replicas));
  }
  return options;
}

EngineConfig MakeEngineConfig(const DeploymentFlags& flags, const Layout& layout, const MemoryBudget& budget,
                              const ModelConfig& config) {
  EngineConfig engine;
  engine.max_running_requests = flags.max_sequences;
  // The server counts what waits for a first token, and says when to come again; the engine behind it counts
  // those as waiting as well that it has put back, or has admitted in this very turn.
  engine.max_queued_requests =
      std::max(engine.max_queued_requests, flags.max_queued_requests + 2 * flags.max_sequences);
  // Where stage 0 encodes pictures itself, steps wait meanwhile: one pass at a time, so that those queued
  // behind it run before the next. Vision ranks have time for more: what waits there shares their passes.
  if (layout.vision == 0) {
    engine.pass_tiles = TilesPerPass(layout);
  } else {
    engine.max_images_encoding *= layout.vision;
  }
  engine.anchors = flags.anchors;
  // Whole blocks, so that nothing is copied where requests continue.
  engine.anchor_rules.interval =
      (flags.anchor_interval + flags.block_size - 1) / flags.block_size * flags.block_size;
  engine.max_step_tokens = flags.max_step_tokens;
  engine.max_context = budget.max_context;
  engine.feature_cache_bytes = flags.feature_cache_mib << 20;
  engine.feature_row_bytes = config.text.hidden * static_cast<int64_t>(ByteSize(DType::kF32));
  return engine;
}

}  // namespace

void AddDeploymentFlags(CLI::App* app, DeploymentFlags* flags, const std::string& log_level) {
  flags->log_level = log_level;
  const auto add = [app](const std::string& name, auto& value, const std::string& help) {
    return app->add_option(name, value, help)->capture_default_str();
  };
  app->add_option("--model", flags->model_dir, "checkpoint folder")->required();
  AddLayoutFlags(app, &flags->layout);
  add("--replicas", flags->replicas,
      "copies of the model behind one coordinator; with --control each has its own port: PORT, PORT + 1, ...")
      ->check(CLI::Range(1, 64));
  app->add_flag(
      "--allow-stale-copy", flags->allow_stale_copy,
      "serve a copy (fulger shard) as it is, although the checkpoint that it was made from has changed");
  add("--device", flags->device,
      "cpu; cuda: a GPU for each rank, from number 0 on; cuda:2,3,..: those GPUs, in the order of ranks");
  add("--ranks-per-device", flags->ranks_per_device,
      "ranks that share a GPU, each with its part of the memory; over nccl that needs NCCL 2.30")
      ->check(CLI::Range(1, 64));
  add("--reserve-gib", flags->reserve_gib,
      "memory of each GPU left to what no plan knows: NCCL, scratch of kernels, features of pictures; not "
      "measured")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--nccl-library", flags->nccl_library,
                  "NCCL for workers started here; default: the machine's libnccl.so.2");
  app->add_option(
         "--transport", flags->transport,
         "how ranks exchange; default: single for one rank, for several mpi on CPUs and nccl on GPUs. mpi on "
         "GPUs takes each tensor through host memory")
      ->check(CLI::IsMember({"single", "mpi", "thread", "nccl"}));
  app->add_option("--control", flags->control,
                  "ADDR:PORT where workers dial; default: a private socket for workers started here");
  app->add_flag("--wait-for-workers", flags->wait_for_workers,
                "start no workers: mpirun, srun or Kubernetes does");
  app->add_option(
         "--launch-timeout", flags->launch_seconds,
         "seconds until a first worker must have joined; with --wait-for-workers it also says that a job "
         "starts "
         "the workers along with this program, which ends where they do not come to serve. Default: waits "
         "without end for workers that others start, 120 for its own")
      ->check(CLI::PositiveNumber);
  add("--join-timeout", flags->join_seconds, "seconds from the first worker until all must have joined")
      ->check(CLI::PositiveNumber);
  app->add_option(
         "--phase-timeout", flags->phase_seconds,
         "seconds that a rank may stand still in a phase of its start; default: device 120, communicators "
         "180, load 600, warm-up 300")
      ->check(CLI::PositiveNumber);
  app->add_option("--max-context", flags->max_context,
                  "tokens of prompt and answer together; default: what the cache holds, at most 131072")
      ->check(CLI::PositiveNumber);
  const auto named = [flags](const std::string&) { flags->slots_were_named = true; };
  add("--max-sequences", flags->max_sequences,
      "sequences that run at the same time; a default that a GPU's memory does not hold is lowered, see the "
      "log")
      ->check(CLI::Range(int64_t{1}, int64_t{65536}))
      ->each(named);
  add("--anchors", flags->anchors,
      "saved prefixes that later requests continue from (prefix cache), each with a lightning state; 0: off")
      ->check(CLI::Range(int64_t{0}, int64_t{65536}))
      ->each(named);
  add("--anchor-interval", flags->anchor_interval,
      "tokens between anchors along a long prompt or answer, besides those at ends of messages and pictures; "
      "0: none")
      ->check(CLI::NonNegativeNumber);
  add("--max-step-tokens", flags->max_step_tokens, "tokens of one forward pass")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  add("--feature-cache", flags->feature_cache_mib,
      "MiB of encoded pictures that are kept for requests to come, where they were encoded; at least what "
      "one picture takes")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  app->add_option("--cache-tokens", flags->cache_tokens,
                  "tokens of KV cache; default: from memory, see the log")
      ->check(CLI::PositiveNumber);
  add("--block-size", flags->block_size, "tokens of one KV cache block")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}));
  app->add_option("--threads", flags->threads, "compute threads of each rank; default: cores / ranks")
      ->check(CLI::PositiveNumber);
  add("--kernels", flags->kernels, "CPU instruction set of workers started here; auto: the fastest")
      ->check(CLI::IsMember({"auto", "avx512", "avx2", "portable"}));
  add("--weight-dtype", flags->weight_dtype, "keep (as stored) or f32")
      ->check(CLI::IsMember({"keep", "f32"}));
  app->add_option("--model-name", flags->model_name, "name in the API; default: the folder's");
  add("--chat-template", flags->chat_template, "form of the prompt")
      ->check(CLI::IsMember({"auto", "vl-01", "text-01"}));
  app->add_option("--worker-binary", flags->worker_binary, "default: fulger-worker beside this program");
  add("--log-level", flags->log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
}

absl::StatusOr<Layout> ChooseLayout(const LayoutFlags& flags, const CheckpointFacts& facts) {
  ASSIGN_OR_RETURN(Layout layout, LayoutOf(flags));
  if (!facts.copy.has_value()) return layout;
  if (flags.given) RETURN_IF_ERROR(CheckLayout(*facts.copy, layout));
  return facts.copy->manifest.layout;
}

void StartLogging(const DeploymentFlags& flags) {
  const std::map<std::string, LogLevel> levels = {{"debug", LogLevel::kDebug},
                                                  {"info", LogLevel::kInfo},
                                                  {"warn", LogLevel::kWarn},
                                                  {"error", LogLevel::kError}};
  const auto level = levels.find(flags.log_level);
  InitLogging("coordinator", level == levels.end() ? LogLevel::kInfo : level->second);
}

absl::StatusOr<std::unique_ptr<Deployment>> Deployment::Create(const DeploymentFlags& flags,
                                                               EngineObserver* observer) {
  std::unique_ptr<Deployment> d(new Deployment());
  d->flags_ = flags;
  if (flags.model_name.empty()) d->flags_.model_name = FolderName(flags.model_dir);
  ASSIGN_OR_RETURN(d->config_, LoadModelConfig(flags.model_dir));
  ASSIGN_OR_RETURN(const CheckpointFacts facts,
                   ReadCheckpointFacts(flags.model_dir, d->config_, flags.allow_stale_copy));
  ASSIGN_OR_RETURN(const Layout layout, ChooseLayout(flags.layout, facts));
  ASSIGN_OR_RETURN(d->plan_, MakePlan(d->config_, layout));
  ASSIGN_OR_RETURN(d->devices_, ParseDeviceList(flags.device));
  RETURN_IF_ERROR(CheckDevice(flags, layout, d->devices_));
  ASSIGN_OR_RETURN(d->transport_, ChooseTransport(flags, d->devices_.gpu, d->plan_.layout.ranks()));
  d->fingerprint_ = facts.fingerprint;

  const std::vector<TensorSpec> table = TensorTable(d->config_);
  const DType dtype = d->weights_ = flags.weight_dtype == "f32" ? DType::kF32 : facts.dtype;
  LogInfo("{}: {}{}, layout {}, device {}, transport {}{}", flags.model_dir,
          facts.copy ? "a copy cut for this layout, " : "", d->config_.model_type, ToString(d->plan_.layout),
          flags.device, d->transport_,
          d->devices_.gpu && d->transport_ == "mpi" ? " through host memory" : "");
  for (const std::string& line : DescribePlan(d->plan_, table, dtype)) LogInfo("{}", line);
  MemoryWishes wishes{.max_context = flags.max_context,
                      .cache_tokens = flags.cache_tokens,
                      .max_sequences = flags.max_sequences,
                      .anchors = flags.anchors,
                      .block_size = flags.block_size,
                      .weights = dtype,
                      .ranks_decide = d->devices_.gpu,
                      .available = flags.wait_for_workers ? 0 : AvailableMemory() / flags.replicas};
  ASSIGN_OR_RETURN(d->budget_, PlanMemoryBudget(d->config_, d->plan_, table, wishes));
  LogInfo("memory of all ranks{}: {}", flags.replicas > 1 ? " of one replica" : "", d->budget_.arithmetic);

  std::vector<Backend*> backends;
  for (int i = 0; i < flags.replicas; ++i) {
    ASSIGN_OR_RETURN(
        const ClusterOptions options,
        MakeClusterOptions(flags, d->devices_, d->budget_, d->plan_, d->transport_, d->fingerprint_, i));
    ASSIGN_OR_RETURN(auto cluster, LocalCluster::Create(d->plan_, options, &d->clock_));
    backends.push_back(&cluster->replica());
    d->clusters_.push_back(std::move(cluster));
  }
  d->engine_ = Engine::Create(MakeEngineConfig(flags, d->plan_.layout, d->budget_, d->config_), backends,
                              &d->clock_, observer);
  for (size_t i = 0; i < d->replicas(); ++i) d->replica(i).SetEvents(d->engine_->Events(i));
  return d;
}

std::vector<RankMemory> Deployment::StageWeights() const {
  const std::vector<TensorSpec> table = TensorTable(config_);
  std::vector<RankMemory> stages;
  for (int p = 0; p < plan_.layout.pp; ++p) {
    const RankPlan& rank = plan_.ranks[static_cast<size_t>(plan_.stage_rank(p, 0))];
    stages.push_back({.weights = RankWeightBytes(table, rank, weights_)});
  }
  return stages;
}

Deployment::~Deployment() {
  Stop("stopping");  // no event may reach the engine any more when it goes
}

absl::Status Deployment::Start() {
  for (const auto& cluster : clusters_) RETURN_IF_ERROR(cluster->Start());
  return absl::OkStatus();
}

void Deployment::Stop(const std::string& reason) {
  for (const auto& cluster : clusters_) cluster->Stop(reason);
}

absl::Status Deployment::health() const {
  absl::Status last;
  bool any = false;
  for (const auto& cluster : clusters_) {
    const absl::Status health = cluster->health();
    any = any || health.ok();
    if (health.ok()) continue;
    last = health;
    if (!cluster->replica().Info().ever_served) return last;
  }
  return any ? absl::OkStatus() : last;
}

absl::Status Deployment::WaitUntilServing(Duration timeout) {
  for (const auto& cluster : clusters_) RETURN_IF_ERROR(cluster->WaitUntilServing(timeout));
  return absl::OkStatus();
}

std::string DescribeLoading(const ReplicaInfo& info) {
  if (info.phase == ReplicaPhase::kServing || info.phase == ReplicaPhase::kStopped) return {};
  std::map<std::string, std::pair<int, double>> phases;  // name -> ranks, sum of fractions
  for (const RankInfo& rank : info.ranks) {
    auto& [count, fraction] = phases[rank.joined ? rank.phase : "launch"];
    ++count;
    fraction += rank.fraction;
  }
  std::string text;
  for (const auto& [name, state] : phases) {
    text +=
        fmt::format("{}{} of {} ranks: {}", text.empty() ? "" : ", ", state.first, info.ranks.size(), name);
    if (name == "load") text += fmt::format(" {:.0f} %", 100 * state.second / state.first);
  }
  return text;
}

std::string DescribeLoadRates(const ReplicaInfo& info) {
  const RankInfo* slowest = nullptr;
  double together = 0;
  for (const RankInfo& rank : info.ranks) {
    if (rank.load_rate <= 0) continue;
    together += rank.load_rate;
    if (slowest == nullptr || rank.load_seconds_left > slowest->load_seconds_left) slowest = &rank;
  }
  if (slowest == nullptr) return {};
  return fmt::format("{:.2g} GB/s together; {:.0f} s left on the slowest, rank {} on {} at {:.2g} GB/s",
                     1e-9 * together, slowest->load_seconds_left, slowest->rank, slowest->host,
                     1e-9 * slowest->load_rate);
}

}  // namespace fulger
