// The engine: one thread that owns every request's state. Requests come in prepared, plans go out, results
// come back, tokens leave through each request's sink. There are no locks on request state: other threads
// post messages.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/blocks/anchor_positions.h"
#include "coordinator/engine/backend.h"
#include "coordinator/engine/engine_observer.h"
#include "coordinator/engine/types.h"

namespace fulger {

struct EngineConfig {
  int64_t max_queued_requests = 4096;  // beyond: RESOURCE_EXHAUSTED at Submit
  int64_t max_running_requests = 256;  // also bounded by the slots of the replica, less those of anchors
  int64_t anchors = 0;                 // slots for saved prefixes; 0: none are saved
  AnchorRules anchor_rules;
  int64_t max_step_tokens = 2048;  // also bounded by the replica's capacity; well above the running requests
  int64_t max_context = 131072;    // prompt + completion; longer prompts are refused at Submit
  // Steps in flight with one stage, and rows of one sequence in flight; each further stage adds a step. 2:
  // the device never waits for us. 1: every step waits for the answer to the one before (with one stage).
  int64_t steps_in_flight = 2;
  int64_t feature_cache_bytes = int64_t{1} << 30;  // features that the vision stage may keep
  int64_t feature_row_bytes = 4;                   // hidden * element size
  int64_t max_images_encoding = 8;                 // asked for and not yet ready
  // Where the ranks of stage 0 encode: tiles of pictures asked for together. 0: vision ranks, which take
  // together what waits there.
  int64_t pass_tiles = 0;
};

struct ReplicaStats {
  bool ready = false;  // up
  uint64_t epoch = 0;
  std::string down_reason{};  // while it is not up
  std::string probe_error{};  // of its last probe step
  int64_t running = 0, waiting = 0, anchors = 0;
};

// Of all replicas together, but for `replicas`.
struct EngineStats {
  bool ready = false;     // a replica is up
  bool stopping = false;  // Drain was called: nothing new comes in
  std::string down_reason;
  std::vector<ReplicaStats> replicas;
  int64_t running = 0, waiting = 0;
  int64_t blocks_total = 0, blocks_used = 0, slots_total = 0, slots_used = 0;
  int64_t anchors = 0, blocks_cached = 0;  // saved prefixes; blocks that nothing but they hold
  uint64_t anchor_evictions = 0, anchor_hits = 0, cached_tokens = 0;
  uint64_t steps = 0, prompt_tokens = 0, generated_tokens = 0, preemptions = 0;
  uint64_t pictures = 0, pictures_encoded = 0;  // of requests; those not encoded were found in the cache
  uint64_t pictures_known = 0;                  // whose features were there when their request came
  int64_t pictures_encoding = 0, features_kept = 0, feature_bytes = 0;  // asked for; ready; of both together
  double seconds_since_step = -1;  // age of the last finished step, probes included; -1: none in this epoch
  std::string probe_error;         // of the last probe step; empty: it passed, or there was none
};

class Engine {
 public:
  // One backend for each replica of the model. Backends, clock and observer (may be null) must outlive the
  // engine. Starts the engine thread. The destructor ends what is left with UNAVAILABLE and joins it; nobody
  // may call the engine by then.
  static std::unique_ptr<Engine> Create(const EngineConfig& config, const std::vector<Backend*>& backends,
                                        const Clock* clock, EngineObserver* observer = nullptr);
  virtual ~Engine() = default;

  // Where replica `replica` reports; lives as long as the engine.
  virtual BackendEvents* Events(size_t replica) = 0;

  // Thread-safe. INVALID_ARGUMENT: the prompt leaves no room for a token in the context or in the cache of
  // the replica (if none is up yet, OnDone says so later), or the request contradicts itself; ALREADY_EXISTS:
  // the id is in use; RESOURCE_EXHAUSTED: queue full (retry later); UNAVAILABLE: stopping. A max_tokens
  // beyond context or cache is cut to what fits. On success sink->OnDone is called exactly once, whatever
  // happens.
  virtual absl::Status Submit(EngineRequest request, std::shared_ptr<ResponseSink> sink) = 0;
  // Thread-safe; the request ends with kCancelled within a step. Unknown ids are ignored (false).
  virtual bool Cancel(const std::string& id) = 0;
  // Thread-safe: as of the last turn of the engine thread.
  virtual EngineStats Stats() const = 0;
  // Refuses new requests, then waits until the running ones ended or `timeout` passed (the rest are
  // cancelled). When it returns every OnDone has. Not from a sink.
  virtual void Drain(Duration timeout) = 0;
  // The first half of Drain: refuses new requests and waits, but cancels nothing. True: none is left.
  virtual bool Settle(Duration timeout) = 0;
  // After Settle: stops what runs between two steps, lets the ranks write what it holds into `folder`, within
  // `limit`, and ends all requests with UNAVAILABLE. Returns what another process needs to go on with those
  // that have an identity: EngineRequest.saved. Where a state could not be written, or not in time, there are
  // only the tokens. Not from a sink.
  virtual std::vector<v1::SavedRequest> Suspend(const std::string& folder, Duration limit) = 0;
};

}  // namespace fulger
