#include "worker/exec/batch.h"

#include <unordered_set>

namespace fulger {

absl::StatusOr<Batch> Batch::Make(const v1::StepPlan& plan, SequenceTable& table, int64_t max_tokens,
                                  int64_t block_size) {
  Batch batch;
  std::unordered_set<uint64_t> seen;
  for (const v1::Row& row : plan.rows()) {
    ASSIGN_OR_RETURN(RankSequence * sequence, table.Find(row.sequence()));
    if (!seen.insert(row.sequence()).second) {
      return Internal("step {}: sequence {} has two rows", plan.step(), row.sequence());
    }
    if (row.count() <= 0 || row.position() < 0) {
      return Internal("step {}: sequence {} has {} tokens at position {}", plan.step(), row.sequence(),
                      row.count(), row.position());
    }
    if (sequence->next_position >= 0 && row.position() != sequence->next_position) {
      return Internal("step {}: sequence {} expected to continue at position {}, the plan says {}",
                      plan.step(), row.sequence(), sequence->next_position, row.position());
    }
    const int64_t end = row.position() + row.count();
    const int64_t covered = static_cast<int64_t>(sequence->blocks.size()) * block_size;
    if (end > covered) {
      return Internal("step {}: sequence {} writes position {}, its blocks cover {}", plan.step(),
                      row.sequence(), end - 1, covered);
    }
    sequence->next_position = end;
    batch.sequences_.push_back({.id = row.sequence(),
                                .sequence = sequence,
                                .row = batch.tokens_,
                                .count = row.count(),
                                .position = row.position(),
                                .sample = row.sample(),
                                .mask = row.mask()});
    batch.tokens_ += row.count();
  }
  if (batch.tokens_ > max_tokens) {
    return Internal("step {}: {} tokens, at most {} were agreed", plan.step(), batch.tokens_, max_tokens);
  }
  return batch;
}

Batch Batch::OfProbe(RankSequence* sequence) {
  Batch batch;
  batch.sequences_.push_back({.sequence = sequence, .count = 1, .sample = true});
  batch.tokens_ = 1;
  return batch;
}

const BatchSequence* Batch::Find(uint64_t id) const {
  for (const BatchSequence& s : sequences_) {
    if (s.id == id) return &s;
  }
  return nullptr;
}

std::vector<const BatchSequence*> Batch::Sampled() const {
  std::vector<const BatchSequence*> sampled;
  for (const BatchSequence& s : sequences_) {
    if (s.sample) sampled.push_back(&s);
  }
  return sampled;
}

void Batch::BuildSegments(const std::vector<int32_t>& status) {
  for (const BatchSequence& s : sequences_) {
    const bool dead = status[static_cast<size_t>(s.row)] == kDeadRow;
    lightning_.push_back({.row = s.row, .count = s.count, .slot = dead ? -1 : s.sequence->slot});
    AttentionSegment segment{.row = s.row, .count = s.count, .position = s.position, .blocks = {}};
    if (!dead) segment.blocks = s.sequence->blocks;
    attention_.push_back(segment);
  }
}

}  // namespace fulger
