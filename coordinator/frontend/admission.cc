#include "coordinator/frontend/admission.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

constexpr int64_t kLongest = 300;  // seconds that a client is sent away for

int64_t WholeSeconds(double seconds) {
  return static_cast<int64_t>(std::ceil(std::clamp(seconds, 1.0, static_cast<double>(kLongest))));
}

}  // namespace

void Admission::Forget(TimePoint now) {
  while (!started_.empty() && now - started_.front().first > kWindow) started_.pop_front();
}

// The queue gets shorter as its prompts are run; how fast, the last half minute says, or less where nothing
// waited for so long. Nothing measured: a second, as good as any.
int64_t Admission::SecondsUntil(int64_t tokens, TimePoint now) {
  Forget(now);
  const int64_t done = std::accumulate(started_.begin(), started_.end(), int64_t{0},
                                       [](int64_t sum, const auto& entry) { return sum + entry.second; });
  if (done == 0 || !waiting_since_) return 1;
  const double span = std::max(1.0, Seconds(std::min(now - *waiting_since_, kWindow)));
  return WholeSeconds(static_cast<double>(tokens) * span / static_cast<double>(done));
}

// Requests that run side by side end one after the other.
int64_t Admission::SecondsUntilOneEnds(const Load& of) const {
  return WholeSeconds(mean_seconds_ / static_cast<double>(std::max<int64_t>(of.requests, 1)));
}

absl::StatusOr<std::unique_ptr<Admission::Ticket>> Admission::Enter(const ClientQuota& client,
                                                                    int64_t prompt_tokens) {
  const TimePoint now = clock_->Now();
  std::lock_guard lock(mu_);
  if (!client.name.empty()) {
    const Load& load = clients_[client.name];
    if (client.max_requests > 0 && load.requests >= client.max_requests) {
      return WithRetryAfter(ResourceExhausted("{} has {} requests under way, and may have {}", client.name,
                                              load.requests, client.max_requests),
                            SecondsUntilOneEnds(load));
    }
    if (client.max_tokens > 0 && load.requests > 0 && load.tokens + prompt_tokens > client.max_tokens) {
      return WithRetryAfter(
          ResourceExhausted("{} has {} tokens of prompts under way, and may have {}: {} more are too "
                            "many",
                            client.name, load.tokens, client.max_tokens, prompt_tokens),
          SecondsUntilOneEnds(load));
    }
  }
  if (queued_.requests >= limits_.queued_requests) {
    return WithRetryAfter(ResourceExhausted("{} requests are waiting, at most {} may", queued_.requests,
                                            limits_.queued_requests),
                          SecondsUntil(queued_.tokens / std::max<int64_t>(queued_.requests, 1), now));
  }
  if (queued_.requests > 0 && queued_.tokens + prompt_tokens > limits_.queued_tokens) {
    return WithRetryAfter(
        ResourceExhausted("prompts of {} tokens are waiting, at most {} may: {} more are too many",
                          queued_.tokens, limits_.queued_tokens, prompt_tokens),
        SecondsUntil(queued_.tokens + prompt_tokens - limits_.queued_tokens, now));
  }
  if (queued_.requests == 0) waiting_since_ = now;
  ++queued_.requests;
  queued_.tokens += prompt_tokens;
  if (!client.name.empty()) {
    Load& load = clients_[client.name];
    ++load.requests;
    load.tokens += prompt_tokens;
  }
  return std::unique_ptr<Ticket>(new Ticket(shared_from_this(), client.name, prompt_tokens, now));
}

void Admission::Ticket::Started() {
  if (started_) return;
  started_ = true;
  const TimePoint now = admission_->clock_->Now();
  std::lock_guard lock(admission_->mu_);
  admission_->Forget(now);
  admission_->started_.emplace_back(now, tokens_);
  admission_->Left(*this);
}

void Admission::Left(const Ticket& ticket) {
  --queued_.requests;
  queued_.tokens -= ticket.tokens_;
  if (queued_.requests == 0) waiting_since_.reset();
}

Admission::Ticket::~Ticket() {
  const double seconds = Seconds(admission_->clock_->Now() - entered_);
  std::lock_guard lock(admission_->mu_);
  if (started_) {
    double& mean = admission_->mean_seconds_;
    mean = mean == 0 ? seconds : 0.9 * mean + 0.1 * seconds;
  } else {  // refused after all, or left: that took no time worth knowing
    admission_->Left(*this);
  }
  const auto client = admission_->clients_.find(client_);
  if (client == admission_->clients_.end()) return;
  client->second.tokens -= tokens_;
  if (--client->second.requests == 0) admission_->clients_.erase(client);
}

}  // namespace fulger
