// The last stage's end: lm_head, the gather of logits over the stage, sampling, and who has finished.
// Every rank of the stage gets the same logits and draws the same tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "fulger/v1/step.pb.h"
#include "model/config.h"
#include "model/layout.h"
#include "worker/exec/batch.h"
#include "worker/exec/rank_runner.h"
#include "worker/layers/context.h"
#include "worker/sampling/sampler.h"
#include "worker/weights/weight_store.h"

namespace fulger {

class OutputHead {
 public:
  // `lm_head` [rows of this rank, hidden]; `masked[id]` non-zero: an unused vocabulary row, never
  // drawn.
  OutputHead(const ModelConfig& config, const Plan& plan, const RankPlan& rank, WeightMatrix lm_head,
             std::span<const int32_t> masked);

  // Takes in the masks of a plan before its rows, and forgets what it retires after them.
  void AddMasks(const v1::StepPlan& plan);
  void RetireMasks(const v1::StepPlan& plan);

  // y f32 [T, hidden] after the final norm; status i32 per row. Fills the result, updates the sequences, and
  // returns the feedback: per sampled sequence the token, or -1 when it has ended.
  absl::StatusOr<std::vector<int32_t>> Sample(ExecContext& ctx, const Batch& batch, const TensorView& y,
                                              const std::vector<int32_t>& status, v1::StepResult& result);

  // Gathers the logits of every row of the batch, a few at a time; index 0 shows them to `observer`.
  absl::Status Observe(ExecContext& ctx, const Batch& batch, const TensorView& y, LogitsObserver& observer);

 private:
  absl::StatusOr<std::vector<float>> GatherLogits(ExecContext& ctx, const TensorView& y,
                                                  const std::vector<int32_t>& rows);
  void EndBadRows(const Batch& batch, const std::vector<int32_t>& status, v1::StepResult& result);
  absl::Status ScorePrompts(ExecContext& ctx, const Batch& batch, const TensorView& y,
                            v1::StepResult& result);
  void ScoreRow(const BatchSequence& s, int64_t position, const std::vector<std::span<const float>>& shards,
                v1::PromptScores* scores, v1::StepResult& result);
  absl::StatusOr<int32_t> DrawOne(const BatchSequence& s, const std::vector<std::span<const float>>& shards,
                                  v1::StepResult& result);
  // Row i of `n` gathered ones, as the runs of the vocabulary in order.
  std::vector<std::span<const float>> Shards(const std::vector<float>& logits, size_t i, size_t n) const;

  int64_t vocab_;
  int64_t width_;
  int64_t shards_;
  WeightMatrix lm_head_;
  VocabMask mask_;
  Sampler sampler_;
  std::unordered_map<uint64_t, std::string> token_masks_;
};

}  // namespace fulger
