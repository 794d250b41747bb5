// Hand-made plans for tests that drive runners without an engine: one driver per replica, any mix of
// sequences, chunks and joining and leaving. Blocks and slots are handed out in the order of use; nothing is
// reused unless asked for.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fulger/v1/step.pb.h"
#include "tests/support/thread_replica.h"

namespace fulger {

struct DriverPicture {
  std::string key;
  int64_t position = 0;  // of its first placeholder
  int64_t rows = 0;
};

// One request as a test states it.
struct DriverRequest {
  // As the coordinator's, never used again on a pipeline: the first stage may still have to take in a token
  // sampled for the one that had it before.
  uint64_t id = 1;
  std::vector<int32_t> prompt;
  std::vector<DriverPicture> pictures;
  v1::SamplingParams sampling;  // max_tokens must be set
  int64_t chunk = 1 << 20;      // prompt tokens per step
  int64_t start_step = 0;       // joins the batch then
};

class PlanDriver {
 public:
  explicit PlanDriver(ThreadReplica& replica, int64_t block_size, int64_t blocks, int64_t slots);

  // Runs all requests to their end, one step at a time (the next plan waits for the result). Returns the
  // tokens of each.
  absl::StatusOr<std::map<uint64_t, std::vector<int32_t>>> Run(std::vector<DriverRequest> requests);
  // The same with `in_flight` plans submitted before the first result is awaited (decode rows name an earlier
  // step's result), and the requests dealt out over `groups` micro-batches: step k runs those with id %
  // groups == k % groups.
  absl::StatusOr<std::map<uint64_t, std::vector<int32_t>>> RunAhead(std::vector<DriverRequest> requests,
                                                                    int in_flight, uint64_t groups = 1);
  // One probe step; call with no step in flight.
  absl::StatusOr<v1::StepResult> Probe();
  // A probe whenever no step is in flight (after every step of Run).
  void ProbeBetweenSteps() { probe_between_steps_ = true; }
  uint64_t steps() const { return step_; }

 private:
  struct Running {
    DriverRequest request;
    int32_t slot = 0;
    int64_t done = 0;     // tokens run or planned
    int64_t known = 0;    // tokens whose ids exist or are being sampled
    int64_t covered = 0;  // positions covered by blocks
    std::vector<int32_t> blocks;
    std::vector<int32_t> tokens;
    int64_t planned_samples = 0;
    uint64_t last_sample_step = 0;
    bool announced = false, ended = false;
    int rows_in_flight = 0;
  };

  std::shared_ptr<v1::StepPlan> NextPlan(std::map<uint64_t, Running>& running, int64_t now, uint64_t groups);
  void AddRow(v1::StepPlan& plan, Running& r);
  void Apply(const v1::StepResult& result, std::map<uint64_t, Running>& running);

  ThreadReplica& replica_;
  const int64_t block_size_;
  std::vector<int32_t> free_blocks_, free_slots_;
  uint64_t step_ = 0;
  bool probe_between_steps_ = false;
  std::map<uint64_t, std::vector<uint64_t>> rows_of_step_;
  std::vector<uint64_t> to_retire_;
  absl::Status error_;
};

}  // namespace fulger
