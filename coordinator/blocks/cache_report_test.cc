#include "coordinator/blocks/cache_report.h"

#include <gtest/gtest.h>

namespace fulger {
namespace {

TEST(CacheReportTest, SaysWhy) {
  EXPECT_EQ(Describe({.used = false}, 10), "the prefix cache was not used");
  EXPECT_EQ(Describe({}, 10), "nothing was cached; no known prompt begins like this one");
  EXPECT_EQ(Describe({.cached = 4, .matched = 4}, 10),
            "the first 4 of 10 tokens were cached; known prompts first differ at token 4");
  EXPECT_EQ(
      Describe({.cached = 4, .matched = 7}, 10),
      "the first 4 of 10 tokens were cached; known prompts first differ at token 7, and between token 4 "
      "and there none has an anchor");
  EXPECT_EQ(Describe({.cached = 0, .matched = 9, .lost = 8}, 10),
            "nothing was cached; an anchor at token 8 had been evicted");
  EXPECT_EQ(
      Describe({.cached = 4, .matched = 10}, 10),
      "the first 4 of 10 tokens were cached; the whole prompt is known, but there is no anchor nearer to "
      "its end that leaves a token to run");
}

}  // namespace
}  // namespace fulger
