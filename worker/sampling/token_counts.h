// Which tokens one sequence holds, for the penalties. Lives on the last stage, one per sequence that needs
// it. Not thread-safe.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "fulger/v1/step.pb.h"

namespace fulger {

class TokenCounts {
 public:
  struct Entry {
    bool in_prompt = false;
    int32_t in_output = 0;
  };

  // False: these parameters look at no counts, so none need be kept.
  static bool Needed(const v1::SamplingParams& params) {
    const bool repetition = params.repetition_penalty() != 0 && params.repetition_penalty() != 1;
    return repetition || params.presence_penalty() != 0 || params.frequency_penalty() != 0;
  }

  void AddPrompt(int32_t id) { entries_[id].in_prompt = true; }
  void AddOutput(int32_t id) { ++entries_[id].in_output; }
  const std::unordered_map<int32_t, Entry>& entries() const { return entries_; }

 private:
  std::unordered_map<int32_t, Entry> entries_;
};

}  // namespace fulger
