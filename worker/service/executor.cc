#include "worker/service/executor.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "model/picture/processor_config.h"
#include "model/shards/manifest.h"
#include "worker/cache/state_file.h"
#include "worker/comm/fabric_factory.h"
#include "worker/comm/metered_fabric.h"
#include "worker/comm/staged_fabric.h"
#include "worker/exec/rank_runner.h"
#include "worker/exec/row_maximum.h"
#include "worker/service/device_memory_plan.h"
#include "worker/service/memory_plan.h"
#include "worker/weights/loader.h"

namespace fulger {
namespace {

constexpr size_t kTaskQueue = 4096;
constexpr auto kProgressInterval = std::chrono::milliseconds(500);
constexpr auto kProgressNap = std::chrono::milliseconds(1);

absl::StatusOr<Layout> FromSpec(const v1::LayoutSpec& spec) {
  ASSIGN_OR_RETURN(const WeightFormat experts, WeightFormatFromName("experts", spec.experts()));
  ASSIGN_OR_RETURN(const WeightFormat projections, WeightFormatFromName("projections", spec.projections()));
  return Layout{.pp = spec.pp(),
                .tp = spec.tp(),
                .ep = spec.ep(),
                .dp = spec.dp(),
                .vision = spec.vision(),
                .stage_layers = {spec.stage_layers().begin(), spec.stage_layers().end()},
                .experts = experts,
                .projections = projections};
}

// Says before anything is read what the ops would say in the first step.
absl::Status CheckFormats(const Device& device, const Layout& layout) {
  const bool int8 = layout.experts == WeightFormat::kInt8 || layout.projections == WeightFormat::kInt8;
  if (!int8 || !device.name().starts_with("cuda")) return absl::OkStatus();
  return Unimplemented("{}: int8 weights run on the CPU only: use --experts stored --projections stored",
                       device.name());
}

// The N of "cuda:N"; 0 for other devices, which do not use it.
int GpuOf(const Device& device) {
  const std::string name = device.name();
  return name.starts_with("cuda:") ? std::atoi(name.c_str() + 5) : 0;
}

}  // namespace

// Declared in the order of use; destroyed in reverse, so the runner goes before the fabric and the weights.
struct Executor::Rank {
  std::string model_dir;
  ModelConfig config;
  std::optional<ImageProcessorConfig> processor;
  Plan plan;
  std::vector<TensorSpec> table;
  std::unique_ptr<WeightSource> source;  // until the weights are loaded
  std::unique_ptr<Device> device;
  Traffic traffic;
  std::unique_ptr<Fabric> fabric;
  std::optional<WeightStore> weights;
  LoadStats loaded;
  RunnerOptions runner_options;
  std::unique_ptr<RankRunner> runner;
};

Executor::Executor(const v1::Assign& assign, uint64_t epoch, const ExecutorOptions& options, Send send,
                   WaitForFollowers wait_for_followers, ReachOthers reach_others, Rendezvous& rendezvous)
    : assign_(assign),
      epoch_(epoch),
      options_(options),
      send_(std::move(send)),
      wait_for_followers_(std::move(wait_for_followers)),
      reach_others_(std::move(reach_others)),
      rendezvous_(rendezvous),
      tasks_(kTaskQueue),
      outbox_(kTaskQueue) {
  sender_ = std::thread([this] { SendAll(); });
  thread_ = std::thread([this] { Main(); });
}

Executor::~Executor() {
  stopping_ = true;
  tasks_.Close();
  thread_.join();
  outbox_.Close();
  sender_.join();
}

void Executor::SendAll() {
  while (auto message = outbox_.Pop()) {
    send_(*message);
    if (message->has_failed()) failed_ = true;
  }
}

void Executor::Push(Task task) { tasks_.Push(std::move(task)); }

void Executor::Abort(const absl::Status& why) {
  std::lock_guard lock(fabric_mu_);
  aborted_ = why;
  if (fabric_ != nullptr) fabric_->Abort(why);
}

v1::WorkerMessage Executor::NewMessage() const {
  v1::WorkerMessage message;
  message.set_epoch(epoch_);
  message.set_rank(assign_.rank());
  return message;
}

void Executor::ReportPhase(v1::Phase phase, double fraction, double rate, const std::string& text) {
  phase_ = phase;
  v1::WorkerMessage message = NewMessage();
  v1::Progress* progress = message.mutable_progress();
  progress->set_phase(phase);
  progress->set_fraction(fraction);
  progress->set_bytes_per_second(rate);
  progress->set_text(text);
  Post(std::move(message));
}

void Executor::Main() {
  Rank rank;
  absl::Status status = SetUp(rank);
  if (status.ok()) status = Serve(rank);
  {
    std::lock_guard lock(fabric_mu_);
    fabric_ = nullptr;
  }
  if (status.ok()) return;
  LogError("{}", Message(status));
  v1::WorkerMessage message = NewMessage();
  message.mutable_failed()->set_message(Message(status));
  message.mutable_failed()->set_phase(phase_);
  Post(std::move(message));
}

absl::Status Executor::SetUp(Rank& rank) {
  ReportPhase(v1::PHASE_DEVICE);
  rank.model_dir = options_.model_dir_override.empty() ? assign_.model_dir() : options_.model_dir_override;
  ASSIGN_OR_RETURN(rank.config, LoadModelConfig(rank.model_dir));
  ASSIGN_OR_RETURN(const Layout layout, FromSpec(assign_.layout()));
  ASSIGN_OR_RETURN(rank.plan, MakePlan(rank.config, layout));
  if (rank.plan.hash != assign_.plan_hash()) {
    return FailedPrecondition("{}/config.json gives plan {}, the coordinator's is {}", rank.model_dir,
                              rank.plan.hash.substr(0, 12), assign_.plan_hash().substr(0, 12));
  }
  if (rank.config.vision.has_value()) {
    ASSIGN_OR_RETURN(rank.processor, LoadImageProcessorConfig(rank.model_dir));
    RETURN_IF_ERROR(CheckMatchesVisionTower(*rank.processor, static_cast<int>(rank.config.vision->image_size),
                                            static_cast<int>(rank.config.vision->patch_size)));
  }
  rank.table = TensorTable(rank.config);
  ASSIGN_OR_RETURN(rank.device,
                   MakeDevice(options_.device, {.threads = options_.threads, .kernels = options_.kernels}));
  RETURN_IF_ERROR(CheckFormats(*rank.device, layout));
  RETURN_IF_ERROR(OpenWeightSource(rank));

  ReportPhase(v1::PHASE_COMMUNICATORS);
  // MPI and NCCL would hang where a firewall drops what one host sends to another.
  activity_.Set("reaching the other hosts");
  RETURN_IF_ERROR(reach_others_());
  activity_.Set("connecting ranks");
  ASSIGN_OR_RETURN(rank.fabric, MakeFabric(assign_.transport(), {.deadline = options_.operation_deadline},
                                           {.rank = assign_.rank(),
                                            .size = rank.plan.layout.ranks(),
                                            .gpu = GpuOf(*rank.device),
                                            .ranks_per_gpu = options_.ranks_per_device,
                                            .rendezvous = &rendezvous_,
                                            .library = options_.nccl_library}));
  if (rank.fabric->rank() != assign_.rank() || rank.fabric->size() != rank.plan.layout.ranks()) {
    return FailedPrecondition("transport {} sees rank {} of {}, the coordinator assigned rank {} of {}",
                              rank.fabric->name(), rank.fabric->rank(), rank.fabric->size(), assign_.rank(),
                              rank.plan.layout.ranks());
  }
  if (assign_.transport() != "nccl" && !rank.device->host_accessible()) {
    rank.fabric = MakeStagedFabric(std::move(rank.fabric), *rank.device);
    if (rank.fabric->size() > 1) LogInfo("{}: transport {}", rank.device->name(), rank.fabric->name());
  }
  rank.fabric = MakeMeteredFabric(std::move(rank.fabric), &rank.traffic);
  {
    std::lock_guard lock(fabric_mu_);
    if (!aborted_.ok()) return aborted_;
    fabric_ = rank.fabric.get();
  }

  RETURN_IF_ERROR(Load(rank));

  ReportPhase(v1::PHASE_WARM_UP);
  const RankPlan& own = rank.plan.ranks[static_cast<size_t>(assign_.rank())];
  if (OwnMemoryOf(*rank.device) == nullptr) {
    ASSIGN_OR_RETURN(rank.runner_options, PlanMemory(rank.config, own, assign_));
  }
  ASSIGN_OR_RETURN(rank.runner,
                   RankRunner::Create({.config = rank.config,
                                       .processor = rank.processor.has_value() ? &*rank.processor : nullptr,
                                       .plan = rank.plan,
                                       .rank = assign_.rank(),
                                       .table = rank.table,
                                       .weights = *rank.weights,
                                       .device = *rank.device,
                                       .fabric = *rank.fabric,
                                       .activity = activity_,
                                       .options = rank.runner_options}));
  if (!own.vision_only && own.index == 0) {
    activity_.Set("waiting for the other ranks of the stage");
    RETURN_IF_ERROR(wait_for_followers_(rank.plan.layout.tp - 1));
  }
  return absl::OkStatus();
}

absl::Status Executor::OpenWeightSource(Rank& rank) {
  activity_.Set("reading the checkpoint's headers");
  ASSIGN_OR_RETURN(rank.source, OpenWeights(rank.model_dir, rank.config, rank.plan, assign_.rank()));
  const WeightSource* const source = rank.source.get();
  if (!assign_.fingerprint().empty() && source->fingerprint() != assign_.fingerprint()) {
    return FailedPrecondition(
        "checkpoint {} has fingerprint {}, the coordinator's has {}: the ranks see different files{}",
        rank.model_dir, source->fingerprint().substr(0, 12), assign_.fingerprint().substr(0, 12),
        IsSharded(rank.model_dir)
            ? ": a stale copy on this host, or one of another layout; bring the coordinator's"
            : "");
  }
  const HasOwnMemory* const gpu = OwnMemoryOf(*rank.device);
  if (gpu == nullptr) return absl::OkStatus();  // the host's: see PlanMemory
  std::vector<DType> held;
  for (size_t i = 0; i < rank.table.size(); ++i) {
    held.push_back(HeldType(source->stored(i), assign_.weight_dtype() == "f32"));
  }
  const DeviceRoom room{.device = fmt::format("{} ({})", rank.device->name(), gpu->Model()),
                        .memory = gpu->Memory(),
                        .ranks = options_.ranks_per_device};
  ASSIGN_OR_RETURN(const DeviceMemoryPlan made,
                   PlanDeviceMemory(rank.config, rank.plan, assign_.rank(), rank.table, held, assign_, room));
  LogInfo("{}", made.arithmetic);
  rank.runner_options = made.options;
  return absl::OkStatus();
}

absl::Status Executor::Load(Rank& rank) {
  ReportPhase(v1::PHASE_LOAD);
  activity_.Set("loading weights");
  const RankPlan& own = rank.plan.ranks[static_cast<size_t>(assign_.rank())];
  auto last = std::chrono::steady_clock::now();
  LoadOptions options;
  options.dtype = assign_.weight_dtype() == "f32" ? WeightDType::kF32 : WeightDType::kKeep;
  options.progress = [&](const LoadProgress& progress) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last >= kProgressInterval || progress.fraction() >= 1) {
      last = now;
      ReportPhase(v1::PHASE_LOAD, progress.fraction(), progress.bytes_per_second);
    }
    return !stopping_.load();
  };
  ASSIGN_OR_RETURN(options.reduce_row_maxima,
                   MakeRowMaximum(rank.plan, assign_.rank(), *rank.fabric, *rank.device));
  ASSIGN_OR_RETURN(rank.weights, LoadWeights(*rank.source, own, *rank.device, options, &rank.loaded));
  LogInfo("rank {}: {}", assign_.rank(), ToString(rank.loaded));
  rank.source.reset();
  return absl::OkStatus();
}

absl::Status Executor::Serve(Rank& rank) {
  v1::WorkerMessage message = NewMessage();
  v1::Ready* ready = message.mutable_ready();
  ready->set_plan_hash(rank.plan.hash);
  const RankPlan& own = rank.plan.ranks[static_cast<size_t>(assign_.rank())];
  ready->set_blocks(own.vision_only ? INT32_MAX : static_cast<int32_t>(rank.runner_options.blocks));
  ready->set_slots(own.vision_only ? INT32_MAX : static_cast<int32_t>(rank.runner_options.slots));
  for (int c = 0; c < kComponents; ++c) {
    const int64_t bytes = rank.weights->bytes()[static_cast<size_t>(c)];
    if (bytes > 0) (*ready->mutable_bytes())[std::string(Name(static_cast<Component>(c)))] = bytes;
  }
  for (const auto& [name, bytes] : rank.runner->MemoryBytes()) (*ready->mutable_bytes())[name] = bytes;
  ready->set_description(rank.device->Describe());
  ready->set_arithmetic(rank.device->Arithmetic());
  if (const HasOwnMemory* const gpu = OwnMemoryOf(*rank.device); gpu != nullptr) {
    const DeviceMemory memory = gpu->Memory();
    ready->set_device_model(gpu->Model());
    ready->set_device_bytes(memory.total);
    ready->set_device_free_bytes(memory.free);
  }
  ready->set_bytes_read(rank.loaded.bytes_read);
  ready->set_load_seconds(rank.loaded.seconds);
  phase_ = v1::PHASE_READY;
  ready_ = true;
  activity_.Set("idle");
  Post(std::move(message));

  // A vision rank's plans go before pictures that wait: the stages wait for the rows that a plan names, and
  // those are encoded already. Ranks of a stage encode together, so they keep the order of arrival.
  PictureQueue pictures(own.vision_only);
  while (!stopping_) {
    auto task = !pictures.ready() ? NextTask(*rank.fabric) : own.vision_only ? tasks_.TryPop() : std::nullopt;
    if (task.has_value()) {
      RETURN_IF_ERROR(RunTask(rank, *task, &pictures));
    } else if (pictures.ready()) {
      RETURN_IF_ERROR(RunPass(rank, pictures.NextPass()));
    } else {
      break;  // closed
    }
  }
  return absl::OkStatus();
}

absl::Status Executor::RunTask(Rank& rank, const Task& task, PictureQueue* pictures) {
  if (const auto* plan = std::get_if<std::shared_ptr<const v1::StepPlan>>(&task)) {
    return RunPlan(rank, **plan);
  }
  if (const auto* picture = std::get_if<Picture>(&task)) {
    pictures->Add(*picture);
  } else if (const auto* withdraw = std::get_if<Withdraw>(&task)) {
    if (pictures->Withdraw(withdraw->key))
      SendFeaturesReady(withdraw->key, Cancelled("nobody waits for the picture any more"));
  } else if (const auto* save = std::get_if<std::shared_ptr<const v1::SaveStates>>(&task)) {
    SaveStates(rank, **save);
  } else if (const auto* fetch = std::get_if<std::shared_ptr<const v1::FetchState>>(&task)) {
    FetchState(rank, (*fetch)->state());
  } else {
    rank.runner->Evict(std::get<Evict>(task).key);
  }
  return absl::OkStatus();
}

// What cannot be written or read costs the sequence its state, not the rank its life.
void Executor::SaveStates(Rank& rank, const v1::SaveStates& wanted) {
  v1::WorkerMessage message = NewMessage();
  *message.mutable_states_saved() =
      rank.runner->SaveStates(wanted, StateFilePath(wanted.folder(), assign_.replica(), assign_.rank()));
  Post(std::move(message));
}

void Executor::FetchState(Rank& rank, const v1::SavedState& state) {
  const absl::Status fetched =
      rank.runner->FetchState(state, StateFilePath(state.folder(), state.replica(), assign_.rank()));
  if (!fetched.ok()) LogWarn("{}", Message(fetched));
  v1::WorkerMessage message = NewMessage();
  message.mutable_state_fetched()->set_id(state.id());
  message.mutable_state_fetched()->set_error(Message(fetched));
  Post(std::move(message));
}

// Waits for a task. A large send over MPI advances only inside calls of its own rank, so while one is open
// the wait is short naps; an idle rank sleeps in the queue.
std::optional<Executor::Task> Executor::NextTask(Fabric& fabric) {
  while (true) {
    const absl::StatusOr<bool> progress = fabric.Progress();
    // A failed send is no news here: its receiver's next wait fails by name.
    if (!progress.ok() || *progress) break;
    if (auto task = tasks_.PopFor(kProgressNap); task.has_value() || tasks_.closed()) return task;
  }
  return tasks_.Pop();
}

absl::Status Executor::RunPlan(Rank& rank, const v1::StepPlan& plan) {
  if (plan.epoch() != epoch_) return absl::OkStatus();  // of an earlier life
  // A row that decodes has had a step in flight or answered before this one: there was something to run.
  const auto decodes = [](const v1::Row& row) { return row.result_of_step() != 0; };
  double idle = 0;
  if (std::any_of(plan.rows().begin(), plan.rows().end(), decodes)) {
    idle = std::chrono::duration<double>(std::chrono::steady_clock::now() - busy_until_).count();
  }
  requests_.Announce(plan);
  rank.traffic = {};
  marks_.clear();
  activity_.RecordInto(plan.trace() ? &marks_ : nullptr);
  const auto start = std::chrono::steady_clock::now();
  auto result = rank.runner->Run(plan);
  activity_.RecordInto(nullptr);
  RETURN_IF_ERROR(Annotate(
      result.status(), fmt::format("step {}{}, in {}", plan.step(), requests_.Describe(plan), activity())));
  last_step_ = plan.step();
  for (v1::SequenceError& error : *result->mutable_errors()) {
    error.set_message(fmt::format("request {}: {}", requests_.Of(error.sequence()), error.message()));
    LogError("step {}: {}", plan.step(), error.message());
  }
  requests_.Retire(plan);
  const RankPlan& own = rank.plan.ranks[static_cast<size_t>(assign_.rank())];
  if (!own.vision_only && own.last_stage && own.index == 0) {
    v1::WorkerMessage message = NewMessage();
    *message.mutable_result() = *std::move(result);
    Post(std::move(message));
  }
  const StepTiming timing = rank.runner->last_timing();
  SendTiming(
      rank, start,
      {.step = plan.step(), .seconds = timing.total_seconds, .wait = timing.wait_seconds, .idle = idle},
      timing.expert_rows);
  busy_until_ = std::chrono::steady_clock::now();
  return absl::OkStatus();
}

void Executor::SendTiming(const Rank& rank, std::chrono::steady_clock::time_point start, const TaskTime& time,
                          const std::vector<uint64_t>& expert_rows) {
  const Traffic& traffic = rank.traffic;
  // A collective of a GPU returns when it is queued.
  const double collective = rank.device->host_accessible() ? traffic.collective_seconds : 0;
  v1::WorkerMessage message = NewMessage();
  v1::RankTiming* out = message.mutable_timing();
  out->set_step(time.step);
  out->set_encode(time.step == 0);
  out->set_pictures(time.pictures);
  out->set_tiles(static_cast<int>(time.tiles));
  out->set_rank(assign_.rank());
  out->set_start_seconds(std::chrono::duration<double>(start.time_since_epoch()).count());
  out->set_total_seconds(time.seconds);
  out->set_wait_seconds(time.wait);
  out->set_collective_seconds(collective);
  out->set_compute_seconds(std::max(0.0, time.seconds - time.wait - collective));
  out->set_idle_seconds(time.idle);
  out->set_collective_bytes(traffic.collective_bytes);
  out->set_link_bytes(traffic.link_bytes);
  out->mutable_expert_rows()->Add(expert_rows.begin(), expert_rows.end());
  for (const Activity::Mark& mark : marks_) {
    v1::TimedActivity* activity = out->add_activities();
    activity->set_name(Activity::Text(mark.what, mark.layer));
    activity->set_offset_seconds(std::chrono::duration<double>(mark.start - start).count());
  }
  Post(std::move(message));
}

absl::Status Executor::RunPass(Rank& rank, const std::vector<Picture>& pictures) {
  rank.traffic = {};
  marks_.clear();
  const auto start = std::chrono::steady_clock::now();
  const auto encoded = rank.runner->Encode(pictures);
  RETURN_IF_ERROR(Annotate(encoded.status(), fmt::format("encoding {} pictures", pictures.size())));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  SendTiming(rank, start,
             {.pictures = static_cast<int>(pictures.size()), .tiles = encoded->tiles, .seconds = seconds},
             {});
  const RankPlan& own = rank.plan.ranks[static_cast<size_t>(assign_.rank())];
  const bool answers = own.vision_only || own.index == 0;
  for (size_t i = 0; answers && i < pictures.size(); ++i)
    SendFeaturesReady(pictures[i]->key, encoded->rows[i]);
  busy_until_ = std::chrono::steady_clock::now();
  return absl::OkStatus();
}

// A picture that cannot be encoded (non-finite features) fails its requests, not the rank.
void Executor::SendFeaturesReady(const std::string& key, const absl::StatusOr<int64_t>& rows) {
  v1::WorkerMessage message = NewMessage();
  v1::FeaturesReady* ready = message.mutable_features_ready();
  ready->set_key(key);
  if (rows.ok()) {
    ready->set_rows(*rows);
  } else {
    ready->set_error(Message(rows.status()));
  }
  Post(std::move(message));
}

}  // namespace fulger
