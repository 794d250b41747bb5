#include "tests/bench/instant_ranks.h"

#include <utility>

#include "base/check.h"

namespace fulger {

void InstantRanks::Start(BackendEvents* events, std::vector<int32_t> cycle) {
  events_ = events;
  cycle_ = std::move(cycle);
  thread_ = std::thread([this] { Work(); });
  events_->OnUp(/*epoch=*/1, options_.capacity);
  events_->OnProbeDue(/*epoch=*/1);
}

void InstantRanks::Release() {
  {
    std::lock_guard lock(mu_);
    released_ = true;
  }
  changed_.notify_all();
}

void InstantRanks::Stop() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void InstantRanks::Submit(std::shared_ptr<const v1::StepPlan> plan) {
  std::lock_guard lock(mu_);
  plans_.push_back(std::move(plan));
  changed_.notify_one();
}

void InstantRanks::Encode(uint64_t /*epoch*/, const Pictures& /*pictures*/) {
  FULGER_CHECK(false, "these ranks see no pictures");
}
void InstantRanks::Withdraw(uint64_t /*epoch*/, const std::vector<std::string>& /*keys*/) {}
void InstantRanks::Evict(uint64_t /*epoch*/, const std::vector<std::string>& /*keys*/) {}

void InstantRanks::Work() {
  auto next = std::chrono::steady_clock::now() + options_.phase;
  for (;;) {
    std::shared_ptr<const v1::StepPlan> plan;
    {
      std::unique_lock lock(mu_);
      changed_.wait(
          lock, [this] { return stopping_ || (!plans_.empty() && (released_ || plans_.front()->probe())); });
      if (stopping_) return;
      plan = std::move(plans_.front());
      plans_.pop_front();
    }
    if (options_.interval.count() > 0) {
      while (next < std::chrono::steady_clock::now()) next += options_.interval;
      std::this_thread::sleep_until(next);  // a device that computes
      next += options_.interval;
    }
    events_->OnResult(Run(*plan));
  }
}

std::shared_ptr<const v1::StepResult> InstantRanks::Run(const v1::StepPlan& plan) {
  for (const uint64_t id : plan.retired()) sequences_.erase(id);
  for (const v1::NewSequence& announced : plan.new_sequences()) {
    sequences_[announced.sequence()] = {.request = announced.request(),
                                        .prompt = announced.prompt_count(),
                                        .max_tokens = announced.sampling().max_tokens()};
  }
  auto result = std::make_shared<v1::StepResult>();
  result->set_replica(plan.replica());
  result->set_epoch(plan.epoch());
  result->set_step(plan.step());
  for (const v1::Row& row : plan.rows()) {
    const auto found = sequences_.find(row.sequence());
    if (!row.sample() || found == sequences_.end()) continue;
    const Sequence& sequence = found->second;
    const int64_t position = row.position() + row.count(), index = position - sequence.prompt;
    if (index >= sequence.max_tokens) continue;  // planned before its end was known
    v1::SampledToken* const token = result->add_tokens();
    token->set_sequence(row.sequence());
    token->set_position(position);
    token->set_id(cycle_[static_cast<size_t>(index) % cycle_.size()]);
    token->set_finish(index + 1 == sequence.max_tokens ? v1::SampledToken::LENGTH
                                                       : v1::SampledToken::NOT_FINISHED);
    if (options_.on_token) options_.on_token(sequence.request, index);
  }
  return result;
}

}  // namespace fulger
