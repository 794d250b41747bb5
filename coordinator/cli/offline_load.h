// Requests of random tokens through an engine, without HTTP and without text: how fast the ranks and the
// scheduler are by themselves.
#pragma once

#include <cstdint>
#include <functional>

#include "base/status.h"
#include "coordinator/engine/engine.h"

namespace fulger {

struct OfflineLoad {
  int64_t requests = 1;
  int64_t input = 1;      // tokens of each prompt
  int64_t output = 1;     // tokens of each answer, which nothing but its length ends
  int64_t in_flight = 1;  // requests that the engine has at most
  uint64_t seed = 1;      // of the prompts
  int64_t vocab = 1;      // prompts are drawn from the ids below,
  int32_t never = -1;     // but for this one: the token that stands for pictures
};

struct OfflineFigures {
  double seconds = 0;  // from the first submission to the end of the last answer
  int64_t requests = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;  // delivered
};

struct OfflineWatch {
  // Asked once a second; when it is not OK, its error is returned after what still ran was cancelled.
  std::function<absl::Status()> health;
  // Called about once a second with what has ended so far. May be empty.
  std::function<void(const OfflineFigures& so_far)> progress{};
};

// Waits until all have ended. Prompts share nothing on purpose, and no prefix cache is asked or filled. The
// first request that fails is the error of the whole run; DATA_LOSS: the books do not balance, because an
// answer is not of the length asked for, or the engine counted other tokens than it delivered. Not from a
// sink.
absl::StatusOr<OfflineFigures> RunOffline(const OfflineLoad& load, Engine& engine, const OfflineWatch& watch);

// DATA_LOSS: an engine that has run just `all` and is drained counted something else.
absl::Status CheckTotals(const OfflineFigures& all, const EngineStats& stats);

}  // namespace fulger
