#include "worker/sampling/finish.h"

#include <gtest/gtest.h>

namespace fulger {
namespace {

v1::SamplingParams Params(int min_tokens, int max_tokens) {
  v1::SamplingParams params;
  params.set_min_tokens(min_tokens);
  params.set_max_tokens(max_tokens);
  params.add_stop_ids(5);
  params.add_stop_ids(9);
  return params;
}

TEST(FinishTest, StopIds) {
  const v1::SamplingParams params = Params(0, 10);
  EXPECT_EQ(CheckFinish(params, 5, 1), v1::SampledToken::STOP_ID);
  EXPECT_EQ(CheckFinish(params, 9, 4), v1::SampledToken::STOP_ID);
  EXPECT_EQ(CheckFinish(params, 6, 4), v1::SampledToken::NOT_FINISHED);
}

TEST(FinishTest, Length) {
  const v1::SamplingParams params = Params(0, 3);
  EXPECT_EQ(CheckFinish(params, 1, 2), v1::SampledToken::NOT_FINISHED);
  EXPECT_EQ(CheckFinish(params, 1, 3), v1::SampledToken::LENGTH);
  EXPECT_EQ(CheckFinish(params, 1, 4), v1::SampledToken::LENGTH);
  EXPECT_EQ(CheckFinish(params, 5, 3), v1::SampledToken::STOP_ID);
}

TEST(FinishTest, StopIdsDoNotCountBeforeMinTokens) {
  const v1::SamplingParams params = Params(3, 4);
  EXPECT_EQ(CheckFinish(params, 5, 2), v1::SampledToken::NOT_FINISHED);
  EXPECT_EQ(CheckFinish(params, 5, 3), v1::SampledToken::STOP_ID);
  EXPECT_EQ(CheckFinish(Params(9, 4), 5, 4), v1::SampledToken::LENGTH);
}

}  // namespace
}  // namespace fulger
