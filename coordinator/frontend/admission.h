// Who may come in: limits on what waits, for all clients together and for each, decided when a prompt's
// length is known and before its pictures are decoded. Who may not is told when to come again, from what was
// measured.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/status.h"

namespace fulger {

// A client, and what it may have under way at a time, waiting and running; 0: any amount. One without a name
// shares nothing but the limits on all.
struct ClientQuota {
  std::string name{};
  int64_t max_requests = 0;
  int64_t max_tokens = 0;  // of prompts
};

struct AdmissionLimits {
  int64_t queued_requests = 1024;            // without a token yet
  int64_t queued_tokens = int64_t{4} << 20;  // of their prompts; one request alone may be longer
};

// Thread-safe; tickets keep it. The clock must outlive it.
class Admission : public std::enable_shared_from_this<Admission> {
 public:
  // A request that came in. Its end gives everything back.
  class Ticket {
   public:
    ~Ticket();
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    // Its first token is there: it waits no more. Once.
    void Started();

   private:
    friend class Admission;
    Ticket(std::shared_ptr<Admission> admission, std::string client, int64_t tokens, TimePoint entered)
        : admission_(std::move(admission)), client_(std::move(client)), tokens_(tokens), entered_(entered) {}

    const std::shared_ptr<Admission> admission_;
    const std::string client_;
    const int64_t tokens_;
    const TimePoint entered_;
    bool started_ = false;
  };

  static std::shared_ptr<Admission> Create(const AdmissionLimits& limits, const Clock* clock) {
    return std::shared_ptr<Admission>(new Admission(limits, clock));
  }

  // RESOURCE_EXHAUSTED, with RetryAfterOf (field_error.h), beyond a limit.
  absl::StatusOr<std::unique_ptr<Ticket>> Enter(const ClientQuota& client, int64_t prompt_tokens);

 private:
  Admission(const AdmissionLimits& limits, const Clock* clock) : limits_(limits), clock_(clock) {}

  struct Load {
    int64_t requests = 0;
    int64_t tokens = 0;
  };
  static constexpr Duration kWindow = std::chrono::seconds(30);

  // With mu_ held.
  void Forget(TimePoint now);
  // Seconds until so many tokens of prompts will have left the queue.
  int64_t SecondsUntil(int64_t tokens, TimePoint now);
  int64_t SecondsUntilOneEnds(const Load& of) const;
  void Left(const Ticket& ticket);

  const AdmissionLimits limits_;
  const Clock* const clock_;
  std::mutex mu_;
  Load queued_;
  std::map<std::string, Load> clients_;                // under way; those without a name are not here
  std::deque<std::pair<TimePoint, int64_t>> started_;  // when, tokens: of the last kWindow
  std::optional<TimePoint> waiting_since_;             // something is queued without a break
  double mean_seconds_ = 0;  // from entry to end, of the last requests that got a token; 0: none yet
};

}  // namespace fulger
