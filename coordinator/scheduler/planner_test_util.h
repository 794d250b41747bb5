// Test support: small configurations, sequences with telling ids, and plans compared as a whole.
#pragma once

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>

#include "coordinator/scheduler/step_planner.h"

namespace fulger {

inline PlannerConfig SmallConfig() {
  return {.replica = "r",
          .epoch = 3,
          .blocks = 10,
          .block_size = 4,
          .slots = 4,
          .step_tokens = 8,
          .max_running = 4,
          .stages = 1,
          .steps_in_flight = 2,
          .features = {.bytes = 100, .row_bytes = 1}};
}

inline std::unique_ptr<Sequence> MakeSequence(uint64_t order, int64_t prompt, int64_t max_tokens) {
  auto s = std::make_unique<Sequence>();
  s->order = order;
  s->ids.resize(static_cast<size_t>(prompt));
  std::iota(s->ids.begin(), s->ids.end(), static_cast<int32_t>(order * 10));
  s->prompt_count = prompt;
  s->max_length = prompt + max_tokens;
  s->sampling.set_seed(order);
  s->sampling.set_max_tokens(1000);  // the plan says what max_length allows
  return s;
}

// The whole plan, every field.
inline void ExpectPlan(const std::shared_ptr<const v1::StepPlan>& plan, const std::string& text) {
  ASSERT_NE(plan, nullptr);
  v1::StepPlan expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &expected));
  std::string difference;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  EXPECT_TRUE(differencer.Compare(expected, *plan)) << difference << plan->DebugString();
}

// What the engine does with a token that does not end the sequence.
inline void Answer(StepPlanner* planner, uint64_t step, int32_t token) {
  const auto rows = planner->Answered(step);
  ASSERT_TRUE(rows.has_value());
  for (const auto& row : *rows) {
    Sequence* s = planner->Find(row.id);
    if (row.sampled && s != nullptr) s->ids.push_back(token);
  }
}

}  // namespace fulger
