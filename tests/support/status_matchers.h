// Assert the specific error: EXPECT_THAT(status, StatusIs(code, HasSubstr("..."))). There is no
// EXPECT_NOT_OK.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/status.h"

namespace fulger {

MATCHER_P2(StatusIs, code, message_matcher, "") {
  const absl::Status& status = arg;
  *result_listener << "status " << status.ToString();
  return status.code() == code &&
         testing::SafeMatcherCast<std::string>(message_matcher).Matches(Message(status));
}

}  // namespace fulger

#define ASSERT_OK(expr)                                \
  do {                                                 \
    const absl::Status& fulger_s = (expr);             \
    ASSERT_TRUE(fulger_s.ok()) << fulger_s.ToString(); \
  } while (false)
#define EXPECT_OK(expr)                                \
  do {                                                 \
    const absl::Status& fulger_s = (expr);             \
    EXPECT_TRUE(fulger_s.ok()) << fulger_s.ToString(); \
  } while (false)
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  FULGER_ASSERT_OK_AND_ASSIGN(FULGER_CONCAT(fulger_or_, __LINE__), lhs, expr)
#define FULGER_ASSERT_OK_AND_ASSIGN(tmp, lhs, expr) \
  auto tmp = (expr);                                \
  ASSERT_TRUE(tmp.ok()) << tmp.status().ToString(); \
  lhs = std::move(tmp).value()
