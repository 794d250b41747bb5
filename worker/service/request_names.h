// Which request each sequence of the plans belongs to, so that a rank's errors and logs name what a client
// can look for.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <unordered_map>

#include "fulger/v1/step.pb.h"

namespace fulger {

// One thread at a time.
class RequestNames {
 public:
  void Announce(const v1::StepPlan& plan) {
    for (const v1::NewSequence& added : plan.new_sequences()) names_[added.sequence()] = added.request();
  }
  void Retire(const v1::StepPlan& plan) {
    for (const uint64_t id : plan.retired()) names_.erase(id);
  }
  // "of sequence 7" where the plan gave no name.
  std::string Of(uint64_t sequence) const {
    const auto found = names_.find(sequence);
    if (found != names_.end() && !found->second.empty()) return found->second;
    return fmt::format("of sequence {}", sequence);
  }
  // " with the requests a, b and 3 more"; empty for a step without rows.
  std::string Describe(const v1::StepPlan& plan) const {
    constexpr int kMost = 4;
    std::string text;
    for (int i = 0; i < plan.rows_size() && i < kMost; ++i) {
      text += (i == 0 ? " with the requests " : ", ") + Of(plan.rows(i).sequence());
    }
    if (plan.rows_size() > kMost) text += fmt::format(" and {} more", plan.rows_size() - kMost);
    return text;
  }

 private:
  std::unordered_map<uint64_t, std::string> names_;  // by sequence
};

}  // namespace fulger
