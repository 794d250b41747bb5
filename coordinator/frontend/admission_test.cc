#include "coordinator/frontend/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "coordinator/frontend/field_error.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using absl::StatusCode;
using std::chrono::seconds;
using testing::HasSubstr;

class AdmissionTest : public testing::Test {
 protected:
  absl::Status Enter(int64_t tokens, const ClientQuota& client = {}) {
    auto ticket = admission_->Enter(client, tokens);
    if (ticket.ok()) in_.push_back(*std::move(ticket));
    return ticket.status();
  }

  ManualClock clock_;
  std::shared_ptr<Admission> admission_ =
      Admission::Create({.queued_requests = 3, .queued_tokens = 1000}, &clock_);
  std::vector<std::unique_ptr<Admission::Ticket>> in_;
};

TEST_F(AdmissionTest, WhatWaitsIsBounded) {
  for (int i = 0; i < 3; ++i) EXPECT_OK(Enter(10));
  EXPECT_THAT(Enter(10), StatusIs(StatusCode::kResourceExhausted, HasSubstr("3 requests are waiting")));
  in_[0]->Started();  // it runs now
  EXPECT_OK(Enter(10));
  EXPECT_FALSE(Enter(10).ok());
  in_.erase(in_.begin() + 1);  // one that waited left
  EXPECT_OK(Enter(10));
  in_.clear();
  EXPECT_OK(Enter(5000));  // alone, anything that fits the context
  EXPECT_THAT(Enter(1),
              StatusIs(StatusCode::kResourceExhausted, HasSubstr("prompts of 5000 tokens are waiting")));
}

TEST_F(AdmissionTest, EachClientHasItsOwnLimits) {
  const ClientQuota a{.name = "a", .max_requests = 2}, b{.name = "b", .max_tokens = 100};
  EXPECT_OK(Enter(10, a));
  in_[0]->Started();  // running ones count as well
  EXPECT_OK(Enter(10, a));
  EXPECT_THAT(Enter(10, a),
              StatusIs(StatusCode::kResourceExhausted, HasSubstr("a has 2 requests under way")));
  EXPECT_OK(Enter(90, b));
  EXPECT_THAT(Enter(11, b), StatusIs(StatusCode::kResourceExhausted, HasSubstr("b has 90 tokens")));
  in_.erase(in_.begin());
  in_.pop_back();
  EXPECT_OK(Enter(300, b));  // alone, whatever it is
  EXPECT_OK(Enter(10, a));
}

// 250 tokens of prompts were begun in 10 seconds while others waited.
TEST_F(AdmissionTest, RetryAfterIsTheMeasuredRate) {
  EXPECT_OK(Enter(950));
  EXPECT_EQ(RetryAfterOf(Enter(100)), 1);  // nothing is known
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(seconds(2));
    ASSERT_OK_AND_ASSIGN(const auto quick, admission_->Enter({}, 50));
    quick->Started();
  }
  EXPECT_EQ(RetryAfterOf(Enter(300)), 10);  // 250 too many at 250 in 10 s
  EXPECT_EQ(RetryAfterOf(Enter(425)), 15);
  clock_.Advance(seconds(60));  // what was measured is too old
  EXPECT_EQ(RetryAfterOf(Enter(425)), 1);
}

TEST_F(AdmissionTest, RetryAfterOfAClientIsHowLongItsRequestsTake) {
  const ClientQuota one{.name = "one", .max_requests = 1};
  EXPECT_OK(Enter(1, one));
  in_.back()->Started();
  clock_.Advance(seconds(7));
  in_.clear();
  for (int i = 0; i < 9; ++i) {  // a picture or a schema that was no good: nothing is learnt from those
    EXPECT_OK(Enter(1, one));
    in_.clear();
  }
  EXPECT_OK(Enter(1, one));
  EXPECT_EQ(RetryAfterOf(Enter(1, one)), 7);
  EXPECT_EQ(RetryAfterOf(absl::OkStatus()), std::nullopt);
}

}  // namespace
}  // namespace fulger
