// From flags to running replicas: config, plan, memory arithmetic, workers and engine. What `serve` and
// `generate` share.
#pragma once

#include <CLI/App.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/device_list.h"
#include "base/status.h"
#include "coordinator/cli/checkpoint_facts.h"
#include "coordinator/cli/layout_flags.h"
#include "coordinator/cli/memory_budget.h"
#include "coordinator/cluster/local_cluster.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/engine_observer.h"
#include "model/config.h"
#include "model/cost/rank_memory.h"
#include "model/layout.h"

namespace fulger {

struct DeploymentFlags {
  std::string model_dir;
  LayoutFlags layout;  // none given: that of a copy, else one rank
  bool allow_stale_copy = false;
  int replicas = 1;
  std::string device = "cpu";
  int ranks_per_device = 1;
  double reserve_gib = 2;  // of a GPU
  std::string nccl_library;
  std::string transport;  // empty: single for one rank, for several mpi on CPUs and nccl on GPUs
  std::string control;
  bool wait_for_workers = false;
  int launch_seconds = 0;
  int join_seconds = 120;
  int phase_seconds = 0;
  int64_t max_context = 0;
  int64_t max_sequences = 32;
  int64_t anchors = 32;
  bool slots_were_named = false;  // --max-sequences or --anchors: memory does not lower them
  int64_t anchor_interval = 2048;
  int64_t max_step_tokens = 2048;
  int64_t feature_cache_mib = 1024;
  int64_t max_queued_requests = 1024;  // of the server; no flag for other programs
  int64_t cache_tokens = 0;
  int64_t block_size = 16;
  int threads = 0;
  std::string kernels = "auto";
  std::string weight_dtype = "keep";
  std::string model_name;
  std::string chat_template = "auto";
  std::string worker_binary;
  std::string log_level;
};
// `log_level`: the default of --log-level.
void AddDeploymentFlags(CLI::App* app, DeploymentFlags* flags, const std::string& log_level);
// The flags' layout, or the one that a copy is cut for.
absl::StatusOr<Layout> ChooseLayout(const LayoutFlags& flags, const CheckpointFacts& facts);
// Applies --log-level.
void StartLogging(const DeploymentFlags& flags);

class Deployment {
 public:
  // Reads the config, makes the plan, listens for workers, creates the engine; logs the arithmetic. Errors
  // are for the user as they are: an impossible layout names the possible ones. The observer may be null.
  static absl::StatusOr<std::unique_ptr<Deployment>> Create(const DeploymentFlags& flags,
                                                            EngineObserver* observer);
  ~Deployment();

  absl::Status Start();
  // Ends workers and listeners; the engine answers no more. Idempotent.
  void Stop(const std::string& reason);
  // Not OK when no replica can be had any more, or when one never got as far as serving: then something is
  // wrong that another start would not mend.
  absl::Status health() const;
  // Blocks until all replicas serve, one of them gave up or `timeout` passed for one.
  absl::Status WaitUntilServing(Duration timeout);

  const DeploymentFlags& flags() const { return flags_; }
  const ModelConfig& config() const { return config_; }
  const Plan& plan() const { return plan_; }
  bool gpus() const { return devices_.gpu; }
  const std::string& transport() const { return transport_; }
  const std::string& fingerprint() const { return fingerprint_; }
  const MemoryBudget& budget() const { return budget_; }
  // Weights of index 0 of each stage, as it holds them; caches are left out.
  std::vector<RankMemory> StageWeights() const;
  size_t replicas() const { return clusters_.size(); }
  Replica& replica(size_t i) { return clusters_.at(i)->replica(); }
  Engine& engine() { return *engine_; }

 private:
  Deployment() = default;

  DeploymentFlags flags_;
  SteadyClock clock_;
  ModelConfig config_;
  Plan plan_;
  DeviceList devices_;
  std::string transport_;
  std::string fingerprint_;
  MemoryBudget budget_;
  DType weights_ = DType::kBF16;
  std::vector<std::unique_ptr<LocalCluster>> clusters_;  // outlive the engine, which calls their replicas
  std::unique_ptr<Engine> engine_;
};

// "stage 0 of 2"-like progress of a replica that loads: "rank 0 load 40 %, rank 1 ready"; empty when there is
// nothing to say.
std::string DescribeLoading(const ReplicaInfo& info);
// How fast, while ranks load: "1.2 GB/s together; 80 s left on the slowest, rank 3 on n2 at 0.1 GB/s". Empty
// otherwise.
std::string DescribeLoadRates(const ReplicaInfo& info);

}  // namespace fulger
