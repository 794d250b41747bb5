// One rank of a model, stepped by hand: prompts and decode steps of a batch, each timed. Alone in its
// process, or one of several under mpirun: every process makes the same plans.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/layout.h"
#include "model/picture/processor_config.h"
#include "tests/bench/timed_device.h"
#include "worker/exec/rank_runner.h"

namespace fulger {

struct BenchRankOptions {
  std::string dir;
  std::string transport = "single";
  DeviceOptions device;
  int pp = 1;  // stages; tp is what the ranks leave
  int ep = 1;
  WeightFormat experts = WeightFormat::kStored;
  WeightFormat projections = WeightFormat::kStored;
  int64_t max_tokens = 0;  // of one step
  int64_t max_context = 0;
  int64_t max_batch = 0;
};

class BenchRank {
 public:
  static absl::StatusOr<std::unique_ptr<BenchRank>> Start(const BenchRankOptions& options);

  int rank() const { return fabric_->rank(); }
  int ranks() const { return fabric_->size(); }
  const Device& device() const { return *device_; }
  const ModelConfig& config() const { return config_; }
  const ComponentBytes& held() const { return weights_->bytes(); }
  OpTable& ops() { return ops_; }

  // A new batch takes the place of the last: `batch` random prompts of `tokens` in one step, one token drawn
  // for each. Seconds of that step.
  absl::StatusOr<double> Prefill(int64_t batch, int64_t tokens);
  // One more token for every sequence of the batch.
  absl::StatusOr<double> Decode();

 private:
  explicit BenchRank(const BenchRankOptions& options) : options_(options) {}
  absl::Status Initialise();
  absl::StatusOr<double> Run(const v1::StepPlan& plan);
  int32_t RandomId();

  BenchRankOptions options_;
  OpTable ops_;
  ModelConfig config_;
  std::optional<ImageProcessorConfig> processor_;  // with a vision tower
  Plan plan_;
  std::vector<TensorSpec> table_;
  Activity activity_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Fabric> fabric_;
  std::optional<WeightStore> weights_;
  std::unique_ptr<RankRunner> runner_;
  uint64_t step_ = 0;
  uint64_t next_sequence_ = 1;
  uint64_t random_ = 1;
  std::vector<uint64_t> batch_;
  int64_t position_ = 0;  // of the token that the next step runs
};

}  // namespace fulger
