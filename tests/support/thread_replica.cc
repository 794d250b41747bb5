#include "tests/support/thread_replica.h"

#include <cstdlib>
#include <string>
#include <utility>

#include "worker/cache/state_file.h"
#include "worker/comm/staged_fabric.h"
#include "worker/comm/thread_fabric.h"
#include "worker/exec/row_maximum.h"
#include "worker/weights/loader.h"

namespace fulger {

std::string TestDevice() {
  const char* name = std::getenv("FULGER_TEST_DEVICE");
  return name != nullptr ? name : "cpu";
}

bool TestDeviceTakesInt8() { return TestDevice() == "cpu"; }

struct ThreadReplica::Rank {
  int index = 0;
  Activity activity;
  std::unique_ptr<Fabric> fabric;
  std::unique_ptr<Device> device;
  std::optional<WeightStore> weights;
  std::unique_ptr<RankRunner> runner;
  BoundedQueue<Task> tasks{1 << 16};
  std::thread thread;
};

absl::StatusOr<std::unique_ptr<ThreadReplica>> ThreadReplica::Start(const std::string& dir,
                                                                    const Layout& layout,
                                                                    const ThreadReplicaOptions& options) {
  std::unique_ptr<ThreadReplica> replica(new ThreadReplica());
  replica->dir_ = dir;
  replica->options_ = options;
  ASSIGN_OR_RETURN(replica->config_, LoadModelConfig(dir));
  if (replica->config_.vision.has_value()) {
    ASSIGN_OR_RETURN(replica->processor_, LoadImageProcessorConfig(dir));
  }
  ASSIGN_OR_RETURN(replica->plan_, MakePlan(replica->config_, layout));
  replica->table_ = TensorTable(replica->config_);
  const int ranks = layout.ranks();
  replica->world_ = std::make_unique<ThreadWorld>(ranks);
  replica->held_.resize(static_cast<size_t>(ranks));
  replica->loaded_.resize(static_cast<size_t>(ranks));
  for (int r = 0; r < ranks; ++r) {
    auto rank = std::make_unique<Rank>();
    rank->index = r;
    rank->fabric = replica->world_->MakeFabric(r);
    replica->ranks_.push_back(std::move(rank));
  }
  for (auto& rank : replica->ranks_) {
    rank->thread = std::thread([replica = replica.get(), r = rank.get()] { replica->RunRank(*r); });
  }
  for (int r = 0; r < ranks; ++r) RETURN_IF_ERROR(*replica->ready_.Pop());
  return replica;
}

ThreadReplica::~ThreadReplica() { Stop(); }

void ThreadReplica::Stop() {
  for (auto& rank : ranks_) rank->tasks.Close();
  // A rank may wait for one that stopped after an error.
  if (world_ != nullptr) world_->Abort(Cancelled("the test ended"));
  for (auto& rank : ranks_) {
    if (rank->thread.joinable()) rank->thread.join();
  }
  results_.Close();
  pictures_.Close();
}

absl::Status ThreadReplica::SetUp(Rank& rank) {
  ASSIGN_OR_RETURN(rank.device, options_.make_device ? options_.make_device()
                                                     : MakeDevice(TestDevice(), DeviceOptions{.threads = 1}));
  // Thread ranks read each other's memory.
  if (!rank.device->host_accessible()) rank.fabric = MakeStagedFabric(std::move(rank.fabric), *rank.device);
  ASSIGN_OR_RETURN(const auto source, OpenWeights(dir_, config_, plan_, rank.index));
  LoadOptions load;
  load.threads = 1;
  load.dtype = options_.weights_as_f32 ? WeightDType::kF32 : WeightDType::kKeep;
  const RankPlan& own = plan_.ranks[static_cast<size_t>(rank.index)];
  ASSIGN_OR_RETURN(load.reduce_row_maxima, MakeRowMaximum(plan_, rank.index, *rank.fabric, *rank.device));
  ASSIGN_OR_RETURN(rank.weights,
                   LoadWeights(*source, own, *rank.device, load, &loaded_[static_cast<size_t>(rank.index)]));
  held_[static_cast<size_t>(rank.index)] = rank.weights->bytes();
  ASSIGN_OR_RETURN(rank.runner,
                   RankRunner::Create({.config = config_,
                                       .processor = processor_.has_value() ? &*processor_ : nullptr,
                                       .plan = plan_,
                                       .rank = rank.index,
                                       .table = table_,
                                       .weights = *rank.weights,
                                       .device = *rank.device,
                                       .fabric = *rank.fabric,
                                       .activity = rank.activity,
                                       .options = options_.runner,
                                       .logits = own.last_stage ? options_.logits : nullptr}));
  return absl::OkStatus();
}

void ThreadReplica::RunRank(Rank& rank) {
  absl::Status status = SetUp(rank);
  if (!status.ok()) world_->Abort(status);
  ready_.Push(status);
  while (status.ok()) {
    auto task = rank.tasks.Pop();
    if (!task.has_value()) break;
    status = RunTask(rank, *task);
  }
  if (!status.ok()) {
    const absl::Status named =
        Annotate(status, fmt::format("rank {}, {}", rank.index, rank.activity.ToString()));
    results_.Push(named);
    pictures_.Push({"", named});
    world_->Abort(named);
  }
  rank.runner.reset();
}

absl::Status ThreadReplica::RunTask(Rank& rank, const Task& task) {
  const RankPlan& own = plan_.ranks[static_cast<size_t>(rank.index)];
  if (const auto* plan = std::get_if<std::shared_ptr<const v1::StepPlan>>(&task)) {
    ASSIGN_OR_RETURN(v1::StepResult result, rank.runner->Run(**plan));
    if (!own.vision_only && own.last_stage && own.index == 0) results_.Push(std::move(result));
  } else if (const auto* pictures = std::get_if<std::vector<Picture>>(&task)) {
    ASSIGN_OR_RETURN(const EncodedPictures encoded, rank.runner->Encode(*pictures));
    const bool answers = own.vision_only || own.index == 0;
    for (size_t i = 0; answers && i < pictures->size(); ++i) {
      pictures_.Push({(*pictures)[i]->key, encoded.rows[i]});
    }
  } else if (const auto* work = std::get_if<Work>(&task)) {
    (*work)(rank);
  } else {
    rank.runner->Evict(std::get<EvictTask>(task).key);
  }
  return absl::OkStatus();
}

void ThreadReplica::Submit(std::shared_ptr<const v1::StepPlan> plan) {
  for (auto& rank : ranks_) rank->tasks.Push(plan);
}

void ThreadReplica::Encode(std::vector<Picture> pictures) {
  const Layout& layout = plan_.layout;
  for (auto& rank : ranks_) {
    std::vector<Picture> own;  // of this rank
    for (const Picture& picture : pictures) {
      const int owner = layout.pp * layout.tp + VisionRankOf(picture->key, layout.vision);
      if (layout.vision > 0 ? rank->index == owner : rank->index < layout.tp) own.push_back(picture);
    }
    if (!own.empty()) rank->tasks.Push(std::move(own));
  }
}

void ThreadReplica::Evict(const std::string& key) {
  for (auto& rank : ranks_) rank->tasks.Push(EvictTask{key});
}

void ThreadReplica::Save(const v1::SaveStates& wanted, Saved done) {
  for (int r = 0; r < layer_ranks(); ++r) {
    ranks_[static_cast<size_t>(r)]->tasks.Push(Work([wanted, done, r](Rank& rank) {
      done(r, rank.runner->SaveStates(wanted, StateFilePath(wanted.folder(), "0", r)));
    }));
  }
}

void ThreadReplica::Fetch(const v1::SavedState& state, Fetched done) {
  for (int r = 0; r < layer_ranks(); ++r) {
    ranks_[static_cast<size_t>(r)]->tasks.Push(Work([state, done, r](Rank& rank) {
      done(r, rank.runner->FetchState(state, StateFilePath(state.folder(), "0", r)));
    }));
  }
}

absl::StatusOr<v1::StepResult> ThreadReplica::NextResult() {
  auto result = results_.Pop();
  return result.has_value() ? *std::move(result) : Unavailable("the replica ended");
}

absl::StatusOr<int64_t> ThreadReplica::NextPicture(std::string* key) {
  auto picture = pictures_.Pop();
  if (!picture.has_value()) return Unavailable("the replica ended");
  if (key != nullptr) *key = picture->first;
  return picture->second;
}

}  // namespace fulger
