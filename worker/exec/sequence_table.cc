#include "worker/exec/sequence_table.h"

namespace fulger {

absl::Status SequenceTable::Apply(const v1::StepPlan& plan) {
  for (const v1::NewSequence& added : plan.new_sequences()) {
    const auto [it, inserted] = sequences_.try_emplace(added.sequence());
    if (!inserted) return Internal("step {}: sequence {} is announced twice", plan.step(), added.sequence());
    RankSequence& s = it->second;
    s.slot = added.slot();
    s.ids.assign(added.ids().begin(), added.ids().end());
    s.sampling = added.sampling();
    const int counted = TokenCounts::Needed(s.sampling) ? added.ids_size() : 0;
    for (int i = 0; i < counted; ++i) {
      if (i < added.prompt_count()) {
        s.counts.AddPrompt(added.ids(i));
      } else {
        s.counts.AddOutput(added.ids(i));
      }
    }
    s.prompt_count = added.prompt_count();
    s.generated = added.ids_size() - added.prompt_count();
  }
  for (const v1::BlockAddition& addition : plan.blocks()) {
    ASSIGN_OR_RETURN(RankSequence * s, Find(addition.sequence()));
    s->blocks.insert(s->blocks.end(), addition.blocks().begin(), addition.blocks().end());
  }
  return absl::OkStatus();
}

void SequenceTable::Retire(const v1::StepPlan& plan) {
  for (const uint64_t id : plan.retired()) sequences_.erase(id);
}

RankSequence* SequenceTable::FindOrNull(uint64_t id) {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : &it->second;
}

absl::StatusOr<RankSequence*> SequenceTable::Find(uint64_t id) {
  RankSequence* s = FindOrNull(id);
  if (s == nullptr) return Internal("a plan names sequence {}, which was never announced or is retired", id);
  return s;
}

}  // namespace fulger
