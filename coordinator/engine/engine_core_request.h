// EngineCore's own record of a request: for its files only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/engine/engine_core.h"

namespace fulger {

struct EngineCore::Request {
  std::string id;
  std::shared_ptr<ResponseSink> sink;
  std::vector<std::shared_ptr<const PreparedImage>> images;  // of sequence.images
  Sequence sequence;
  Replica* replica = nullptr;  // whose planner has the sequence; null: it waits until one is up
  int64_t max_tokens = 0;      // asked for
  int64_t delivered = 0;       // tokens given to the sink
  int64_t image_tokens = 0;
  int64_t scored = 1;  // prompt tokens whose scores are out; the first has none
  std::shared_ptr<TokenConstraint> constraint;
  std::string identity;                                           // empty: not to be saved
  std::vector<v1::SavedToken> tokens;                             // delivered, where it may be saved
  TimePoint arrival{}, scheduled{}, first_token{}, last_token{};  // the epoch of the clock: not yet
};

}  // namespace fulger
