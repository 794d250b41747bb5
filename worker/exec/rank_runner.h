// Runs one rank's part of each step. Two kinds: a language-model rank (StageRunner) and a vision rank
// (VisionRunner).
//
// Threads: one executor thread creates it and makes every call, except Activity, which any thread may read.
// Create and Run are collective: every rank of the replica makes the same calls in the same order.
// An error from Run means this rank's part of the replica is broken (a peer gone, a plan that contradicts
// earlier ones): the caller reports it and the replica is rebuilt. A bad sequence is not an error: it is in
// StepResult.errors.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fulger/v1/control.pb.h"
#include "fulger/v1/step.pb.h"
#include "model/config.h"
#include "model/cost/rank_memory.h"
#include "model/layout.h"
#include "model/picture/processor_config.h"
#include "worker/comm/collective.h"
#include "worker/layers/context.h"
#include "worker/vision/feature_store.h"
#include "worker/weights/loader.h"

namespace fulger {

struct RunnerOptions {
  int64_t blocks = 0;
  int64_t block_size = 16;
  int64_t slots = 0;
  int64_t max_step_tokens = 2048;
  DType kv_dtype = kCacheDType;

  CacheSizes sizes() const {
    return {.blocks = blocks, .block_size = block_size, .slots = slots, .max_step_tokens = max_step_tokens};
  }
};

// Sees every row's logits (evaluation and tests; costs an lm_head pass over all rows). Set on every rank of
// the last stage, or on none; index 0 calls it.
class LogitsObserver {
 public:
  virtual ~LogitsObserver() = default;
  // Logits f32 [vocab] that follow the token at `position`. Executor thread; the span is valid during the
  // call.
  virtual void OnLogits(uint64_t sequence, int64_t position, std::span<const float> logits) = 0;
};

// Everything here must outlive the runner.
struct RankSetup {
  const ModelConfig& config;
  const ImageProcessorConfig* processor;  // null without vision
  const Plan& plan;
  int rank;
  const std::vector<TensorSpec>& table;
  const WeightStore& weights;
  Device& device;
  Fabric& fabric;
  Activity& activity;
  RunnerOptions options;
  LogitsObserver* logits = nullptr;  // last stage only
};

// Where a step's time went on this rank.
struct StepTiming {
  double total_seconds = 0;
  double wait_seconds = 0;   // for the previous stage, the feedback or a vision rank
  ExpertRows expert_rows{};  // index 0 of a stage, on a device whose memory the host can read
};

class RankRunner {
 public:
  static absl::StatusOr<std::unique_ptr<RankRunner>> Create(const RankSetup& setup);
  virtual ~RankRunner() = default;

  // The result carries tokens and errors on every rank of the last stage (identical ones), and nothing
  // elsewhere.
  virtual absl::StatusOr<v1::StepResult> Run(const v1::StepPlan& plan) = 0;
  // On ranks that hold the vision tower: see FeatureStore::Encode.
  virtual absl::StatusOr<EncodedPictures> Encode(std::span<const Picture> pictures) = 0;
  virtual void Evict(const std::string& key) = 0;
  // On ranks that hold layers: see StateKeeper. `path`: this rank's file of the states.
  virtual v1::StatesSaved SaveStates(const v1::SaveStates& wanted, const std::string& path) = 0;
  virtual absl::Status FetchState(const v1::SavedState& state, const std::string& path) = 0;
  virtual StepTiming last_timing() const = 0;
  // Held on this rank besides the weights: "kv", "slots", "arena".
  virtual std::vector<std::pair<std::string, int64_t>> MemoryBytes() const = 0;
};

}  // namespace fulger
