// A plan's rows laid out flat: row offsets, dead rows, and the segments that the kernels take. Host memory
// only.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "fulger/v1/step.pb.h"
#include "worker/exec/sequence_table.h"
#include "worker/layers/context.h"

namespace fulger {

struct BatchSequence {
  uint64_t id = 0;
  RankSequence* sequence = nullptr;
  int64_t row = 0;  // of its first token in the batch
  int64_t count = 0;
  int64_t position = 0;
  bool sample = false;
  uint64_t mask = 0;  // of the token to sample; 0: none
};

class Batch {
 public:
  // Checks the rows against the table: known, once each, continuing, covered by blocks, at most max_tokens in
  // all.
  static absl::StatusOr<Batch> Make(const v1::StepPlan& plan, SequenceTable& table, int64_t max_tokens,
                                    int64_t block_size);

  // The one row of a probe step: it names no slot and no blocks. `sequence` must outlive the batch.
  static Batch OfProbe(RankSequence* sequence);

  int64_t tokens() const { return tokens_; }
  const std::vector<BatchSequence>& sequences() const { return sequences_; }
  const BatchSequence* Find(uint64_t id) const;
  // Sequences whose last row draws a token, in plan order.
  std::vector<const BatchSequence*> Sampled() const;
  // `status` i32 [T] (kHealthy, kDeadRow or a health tag) decides which rows are padding.
  void BuildSegments(const std::vector<int32_t>& status);
  const std::vector<LightningSegment>& lightning() const { return lightning_; }
  const std::vector<AttentionSegment>& attention() const { return attention_; }

 private:
  int64_t tokens_ = 0;
  std::vector<BatchSequence> sequences_;
  std::vector<LightningSegment> lightning_;
  std::vector<AttentionSegment> attention_;
};

}  // namespace fulger
