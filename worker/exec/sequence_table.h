// What a rank remembers of each sequence between steps: its slot, its blocks, the ids known here, and on the
// last stage what sampling needs. Plans only name changes.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "fulger/v1/step.pb.h"
#include "worker/sampling/token_counts.h"

namespace fulger {

struct RankSequence {
  int32_t slot = -1;
  int64_t next_position = -1;  // -1: no row yet; else rows must continue here
  std::vector<int32_t> blocks;
  std::vector<int32_t> ids;  // announced, then fed back; complete on stage 0 only
  v1::SamplingParams sampling;
  TokenCounts counts;  // last stage
  int64_t prompt_count = 0;
  int64_t generated = 0;  // last stage
  bool ended = false;     // finished or failed: its rows write nothing and sample nothing
};

class SequenceTable {
 public:
  // Applies new_sequences and block additions. An id announced twice, or blocks for an unknown one, is
  // INTERNAL: the coordinator's bug, and the replica is rebuilt rather than answering wrongly.
  absl::Status Apply(const v1::StepPlan& plan);
  void Retire(const v1::StepPlan& plan);
  absl::StatusOr<RankSequence*> Find(uint64_t id);
  RankSequence* FindOrNull(uint64_t id);
  size_t size() const { return sequences_.size(); }

 private:
  std::unordered_map<uint64_t, RankSequence> sequences_;
};

}  // namespace fulger
