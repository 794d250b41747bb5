// Works through the batches of a JobStore, so many lines at a time, as if clients had sent them. What was
// done before a restart is not done again.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/api/http.h"
#include "coordinator/jobs/job_store.h"

namespace fulger {

// One thread, which alone decides and writes to the store; answers come on any.
class BatchRunner {
 public:
  struct Options {
    int64_t concurrency = 16;      // lines at a time, of all batches
    std::function<int64_t()> now;  // seconds since 1970; empty: the system's
  };
  // Answers `body` of `endpoint` through the responder, some time. Must not block.
  using RunLine = std::function<void(const std::string& endpoint, std::string body,
                                     std::shared_ptr<HttpResponder> responder)>;

  // Goes on with what is open. The store must outlive this.
  BatchRunner(JobStore* store, RunLine run, Options options);
  ~BatchRunner();  // as Stop

  // A batch came or is to be cancelled.
  void Wake();
  // Begins no more lines; those under way go on, and their results are taken.
  void Pause();
  // Begins no more lines and takes no more results but those that are there. Those under way are cancelled,
  // as if their clients had left, and remain open for the next start. Idempotent.
  void Stop();

 private:
  class Responder;
  struct Answered {
    BatchLine line{};
    HttpResponse response;  // status 0: none
  };
  // Between the thread and the lines' responders, which may outlive the runner.
  struct Shared {
    std::mutex mu;
    std::condition_variable changed;
    bool awake = true;
    bool paused = false;
    bool stopping = false;
    std::vector<Answered> answered;
    std::set<Responder*> live;
  };
  struct Progress {
    int64_t next = 0;  // lines before it were begun
    int64_t running = 0;
    bool drained = false;  // no line is left to begin
  };

  void Run();
  void Take(Answered answered);
  // What can be begun or ended now. Errors of the store are logged, and tried again later.
  absl::Status Turn();
  absl::Status Begin(const Batch& batch, Progress* progress);
  absl::Status Expire(const Batch& batch);
  absl::Status End(const Batch& batch, const char* status);
  void StartLine(const Batch& batch, BatchLine line);

  JobStore* const store_;
  const RunLine run_;
  const Options options_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  // The thread's own.
  std::map<std::string, Progress> progress_;
  std::multimap<TimePoint, BatchLine> delayed_;  // refused for now: when to try again
  int64_t running_ = 0;
  bool paused_ = false;  // as of its last look
  std::thread thread_;   // last
};

}  // namespace fulger
