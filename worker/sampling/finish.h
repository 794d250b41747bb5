// Does this token end the sequence? Decided on the last stage, so that later steps in flight write nothing.
#pragma once

#include <algorithm>
#include <cstdint>

#include "fulger/v1/step.pb.h"

namespace fulger {

// `generated` counts the output tokens, this one included. A stop id counts from the min_tokens-th token on
// (the sampler does not draw one before that); it wins over max_tokens.
inline v1::SampledToken::Finish CheckFinish(const v1::SamplingParams& params, int32_t id, int64_t generated) {
  const auto& stops = params.stop_ids();
  if (generated >= params.min_tokens() && std::find(stops.begin(), stops.end(), id) != stops.end()) {
    return v1::SampledToken::STOP_ID;
  }
  return generated >= params.max_tokens() ? v1::SampledToken::LENGTH : v1::SampledToken::NOT_FINISHED;
}

}  // namespace fulger
