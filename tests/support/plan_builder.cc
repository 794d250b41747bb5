#include "tests/support/plan_builder.h"

#include <algorithm>

namespace fulger {

PlanDriver::PlanDriver(ThreadReplica& replica, int64_t block_size, int64_t blocks, int64_t slots)
    : replica_(replica), block_size_(block_size) {
  // Handed out from the back, so that tables are not in ascending order.
  for (int32_t b = 0; b < blocks; ++b) free_blocks_.push_back((b * 7 + 3) % static_cast<int32_t>(blocks));
  std::sort(free_blocks_.begin(), free_blocks_.end());
  free_blocks_.erase(std::unique(free_blocks_.begin(), free_blocks_.end()), free_blocks_.end());
  for (size_t i = 0; i + 1 < free_blocks_.size(); i += 2) std::swap(free_blocks_[i], free_blocks_[i + 1]);
  for (int32_t s = 0; s < slots; ++s) free_slots_.push_back(s);
}

void PlanDriver::AddRow(v1::StepPlan& plan, Running& r) {
  const auto prompt = static_cast<int64_t>(r.request.prompt.size());
  if (!r.announced) {
    FULGER_CHECK(!free_slots_.empty());
    r.slot = free_slots_.back();
    free_slots_.pop_back();
    v1::Operation* zero = plan.add_operations();
    zero->set_kind(v1::Operation::ZERO_SLOT);
    zero->set_to(r.slot);
    v1::NewSequence* added = plan.add_new_sequences();
    added->set_sequence(r.request.id);
    added->set_slot(r.slot);
    added->set_prompt_count(static_cast<int32_t>(prompt));
    for (const int32_t id : r.request.prompt) added->add_ids(id);
    *added->mutable_sampling() = r.request.sampling;
    r.announced = true;
    r.known = prompt;
  }
  v1::Row* row = plan.add_rows();
  row->set_sequence(r.request.id);
  row->set_position(r.done);
  const int64_t count = r.done < prompt ? std::min(r.request.chunk, prompt - r.done) : 1;
  row->set_count(static_cast<int32_t>(count));
  if (r.done >= prompt) row->set_result_of_step(r.last_sample_step);
  const int64_t first = r.done;
  r.done += count;
  row->set_sample(r.done >= r.known);
  if (row->sample()) {
    ++r.known;
    ++r.planned_samples;
    r.last_sample_step = plan.step();
  }
  v1::BlockAddition* addition = nullptr;
  while (r.covered < r.done) {
    FULGER_CHECK(!free_blocks_.empty());
    if (addition == nullptr) addition = plan.add_blocks();
    addition->set_sequence(r.request.id);
    addition->add_blocks(free_blocks_.back());
    r.blocks.push_back(free_blocks_.back());
    free_blocks_.pop_back();
    r.covered += block_size_;
  }
  for (const DriverPicture& picture : r.request.pictures) {
    const int64_t begin = std::max(first, picture.position);
    const int64_t end = std::min(r.done, picture.position + picture.rows);
    if (begin >= end) continue;
    v1::FeatureRows* features = plan.add_features();
    features->set_key(picture.key);
    features->set_first(begin - picture.position);
    features->set_count(end - begin);
    features->set_sequence(r.request.id);
    features->set_position(begin);
  }
  ++r.rows_in_flight;
  rows_of_step_[plan.step()].push_back(r.request.id);
}

std::shared_ptr<v1::StepPlan> PlanDriver::NextPlan(std::map<uint64_t, Running>& running, int64_t now,
                                                   uint64_t groups) {
  auto plan = std::make_shared<v1::StepPlan>();
  plan->set_step(++step_);
  for (auto& [id, r] : running) {
    if (r.ended || r.request.start_step > now || id % groups != step_ % groups) continue;
    if (r.planned_samples >= r.request.sampling.max_tokens()) continue;
    AddRow(*plan, r);
  }
  for (const uint64_t id : to_retire_) plan->add_retired(id);
  to_retire_.clear();
  return plan;
}

void PlanDriver::Apply(const v1::StepResult& result, std::map<uint64_t, Running>& running) {
  for (const v1::SampledToken& token : result.tokens()) {
    Running& r = running.at(token.sequence());
    FULGER_CHECK(!r.ended, "a token for an ended sequence");
    r.tokens.push_back(token.id());
    if (token.finish() != v1::SampledToken::NOT_FINISHED) r.ended = true;
  }
  for (const v1::SequenceError& error : result.errors()) {
    if (error_.ok()) error_ = DataLoss("sequence {}: {}", error.sequence(), error.message());
    running.at(error.sequence()).ended = true;
  }
  for (const uint64_t id : rows_of_step_[result.step()]) --running.at(id).rows_in_flight;
  rows_of_step_.erase(result.step());
  for (auto& [id, r] : running) {
    if (!r.ended || r.rows_in_flight > 0 || r.slot < 0) continue;
    free_slots_.push_back(r.slot);
    free_blocks_.insert(free_blocks_.end(), r.blocks.begin(), r.blocks.end());
    r.slot = -1;
    to_retire_.push_back(id);
  }
}

absl::StatusOr<v1::StepResult> PlanDriver::Probe() {
  auto plan = std::make_shared<v1::StepPlan>();
  plan->set_step(++step_);
  plan->set_probe(true);
  replica_.Submit(std::move(plan));
  return replica_.NextResult();
}

absl::StatusOr<std::map<uint64_t, std::vector<int32_t>>> PlanDriver::Run(
    std::vector<DriverRequest> requests) {
  return RunAhead(std::move(requests), 1);
}

absl::StatusOr<std::map<uint64_t, std::vector<int32_t>>> PlanDriver::RunAhead(
    std::vector<DriverRequest> requests, int in_flight, uint64_t groups) {
  std::map<uint64_t, Running> running;
  for (DriverRequest& request : requests) {
    const uint64_t id = request.id;
    running[id].request = std::move(request);
  }
  const auto unfinished = [&] {
    return std::any_of(running.begin(), running.end(), [](const auto& r) { return !r.second.ended; });
  };
  error_ = absl::OkStatus();
  int64_t now = 0;
  int outstanding = 0;
  while (unfinished() || outstanding > 0) {
    while (unfinished() && outstanding < in_flight) {
      replica_.Submit(NextPlan(running, now++, groups));
      ++outstanding;
    }
    ASSIGN_OR_RETURN(const v1::StepResult result, replica_.NextResult());
    --outstanding;
    Apply(result, running);
    if (probe_between_steps_ && outstanding == 0) RETURN_IF_ERROR(Probe().status());
  }
  // One more plan retires what ended last, so that the next Run may use the same ids.
  replica_.Submit(NextPlan(running, now, groups));
  RETURN_IF_ERROR(replica_.NextResult().status());
  rows_of_step_.erase(step_);
  RETURN_IF_ERROR(error_);
  std::map<uint64_t, std::vector<int32_t>> tokens;
  for (auto& [id, r] : running) tokens[id] = std::move(r.tokens);
  return tokens;
}

}  // namespace fulger
