// The engine: one thread that owns every request's state. Requests come in prepared, plans go out, results
// come back, tokens leave through each request's sink. There are no locks on request state: other threads
// post messages.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/engine/backend.h"
#include "coordinator/engine/types.h"

namespace fulger {

struct EngineConfig {
  std::string replica = "0";
  int64_t max_queued_requests = 4096;  // beyond: RESOURCE_EXHAUSTED at Submit
  int64_t max_running_requests = 256;  // also bounded by the slots of the replica
  int64_t max_step_tokens = 2048;      // also bounded by the replica's capacity
  int64_t max_context = 131072;        // prompt + completion; longer prompts are refused at Submit
  int64_t steps_in_flight = 2;         // at least the number of stages is used
  int64_t feature_cache_bytes = int64_t{1}
                                << 30;  // bound on features the vision stage keeps, in rows * row_bytes
  int64_t feature_row_bytes = 4;        // hidden * element size
};

struct EngineStats {
  bool ready = false;  // a replica is up
  std::string down_reason;
  uint64_t epoch = 0;
  int64_t running = 0, waiting = 0;
  int64_t blocks_total = 0, blocks_used = 0, slots_total = 0, slots_used = 0;
  uint64_t steps = 0, prompt_tokens = 0, generated_tokens = 0, preemptions = 0;
  double seconds_since_step = -1;  // age of the last finished step; -1: none yet
};

class Engine : public BackendEvents {
 public:
  // The backend must outlive the engine. Starts the engine thread.
  static std::unique_ptr<Engine> Create(const EngineConfig& config, Backend* backend, const Clock* clock);

  // Thread-safe. INVALID_ARGUMENT: prompt longer than the context; RESOURCE_EXHAUSTED: queue full (retry
  // later); UNAVAILABLE: stopping. On success sink->OnDone is called exactly once, whatever happens.
  virtual absl::Status Submit(EngineRequest request, std::shared_ptr<ResponseSink> sink) = 0;
  // Thread-safe; the request ends with kCancelled within a step. Unknown ids are ignored (false).
  virtual bool Cancel(const std::string& id) = 0;
  virtual EngineStats Stats() const = 0;
  // Refuses new requests, then waits until the running ones ended or `timeout` passed (the rest are
  // cancelled).
  virtual void Drain(Duration timeout) = 0;
};

}  // namespace fulger
