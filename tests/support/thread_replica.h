// A replica whose ranks are threads of this process: the real weights loader, runners and collectives,
// without gRPC or MPI. How most distributed tests run.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/bounded_queue.h"
#include "base/status.h"
#include "fulger/v1/step.pb.h"
#include "model/layout.h"
#include "worker/comm/thread_fabric.h"
#include "worker/exec/rank_runner.h"

namespace fulger {

// "cpu", or what FULGER_TEST_DEVICE names: with cuda the same tests run on a GPU, all ranks on it.
std::string TestDevice();
// Whether the devices of this run compute with int8 weights: CUDA does not yet.
bool TestDeviceTakesInt8();

struct ThreadReplicaOptions {
  RunnerOptions runner{.blocks = 256, .block_size = 16, .slots = 16, .max_step_tokens = 1024};
  bool weights_as_f32 = true;
  // Null: TestDevice(), with one thread per rank.
  std::function<absl::StatusOr<std::unique_ptr<Device>>()> make_device;
  LogitsObserver* logits = nullptr;  // told by index 0 of the last stage
};

class ThreadReplica {
 public:
  // Loads `dir` on every rank and connects them. Blocks until all are ready.
  static absl::StatusOr<std::unique_ptr<ThreadReplica>> Start(const std::string& dir, const Layout& layout,
                                                              const ThreadReplicaOptions& options);
  ~ThreadReplica();

  const Plan& plan() const { return plan_; }
  const ModelConfig& config() const { return config_; }
  // What each rank's weights take, per component.
  const std::vector<ComponentBytes>& held() const { return held_; }
  // What each rank read of the checkpoint.
  const std::vector<LoadStats>& loaded() const { return loaded_; }

  // Queues the plan on every rank that a coordinator would reach; never blocks.
  void Submit(std::shared_ptr<const v1::StepPlan> plan);
  // Queues the pictures on the ranks that encode them, for one pass.
  void Encode(std::vector<Picture> pictures);
  void Evict(const std::string& key);
  // Queued on every rank that holds layers; `done` is called by each of them.
  using Saved = std::function<void(int rank, v1::StatesSaved saved)>;
  void Save(const v1::SaveStates& wanted, Saved done);
  using Fetched = std::function<void(int rank, const absl::Status& status)>;
  void Fetch(const v1::SavedState& state, Fetched done);
  int layer_ranks() const { return plan_.layout.pp * plan_.layout.tp; }
  // The next result of the last stage, in step order, or the first error of any rank.
  absl::StatusOr<v1::StepResult> NextResult();
  // The number of feature rows of the next picture that finished; `key` (may be null): of which.
  absl::StatusOr<int64_t> NextPicture(std::string* key = nullptr);
  // Ends all ranks, as if they died: what waits for a result gets UNAVAILABLE. Any thread, once.
  void Stop();

 private:
  struct Rank;
  struct EvictTask {
    std::string key;
  };
  using Work = std::function<void(Rank&)>;
  using Task = std::variant<std::shared_ptr<const v1::StepPlan>, std::vector<Picture>, EvictTask, Work>;

  ThreadReplica() = default;
  void RunRank(Rank& rank);
  absl::Status SetUp(Rank& rank);
  absl::Status RunTask(Rank& rank, const Task& task);

  std::string dir_;
  ThreadReplicaOptions options_;
  ModelConfig config_;
  std::optional<ImageProcessorConfig> processor_;
  Plan plan_;
  std::vector<TensorSpec> table_;
  std::unique_ptr<ThreadWorld> world_;
  std::vector<ComponentBytes> held_;
  std::vector<LoadStats> loaded_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  BoundedQueue<absl::StatusOr<v1::StepResult>> results_{1 << 16};
  BoundedQueue<std::pair<std::string, absl::StatusOr<int64_t>>> pictures_{1 << 16};
  BoundedQueue<absl::Status> ready_{1 << 10};
};

}  // namespace fulger
