#include "coordinator/blocks/feature_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace fulger {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

FeatureCacheLimits Limits(int64_t rows, int64_t encoding = 8) {
  return {.bytes = rows * 10, .row_bytes = 10, .encoding = encoding};
}

TEST(FeatureCacheTest, EncodesEachKeyOnceAndInOrder) {
  FeatureCache cache(Limits(100, /*encoding=*/2));
  const std::vector<FeatureNeed> needs = {{"a", 10}, {"b", 10}, {"a", 10}, {"c", 10}};
  EXPECT_THAT(cache.Update(needs).encode, ElementsAre(0, 1));  // two at a time
  EXPECT_THAT(cache.Update(needs).encode, IsEmpty());
  EXPECT_FALSE(cache.Ready("a"));
  EXPECT_TRUE(cache.Encoded("a"));
  EXPECT_FALSE(cache.Encoded("a"));
  EXPECT_TRUE(cache.Ready("a"));
  EXPECT_THAT(cache.Update(needs).encode, ElementsAre(3));
  EXPECT_EQ(cache.bytes(), 300);
}

TEST(FeatureCacheTest, EvictsLeastRecentlyUsedThatNobodyNeeds) {
  FeatureCache cache(Limits(30));
  cache.Update(std::vector<FeatureNeed>{{"a", 10}, {"b", 10}, {"c", 10}});
  for (const char* key : {"a", "b", "c"}) cache.Encoded(key);
  cache.UsedBy("a", 1);
  cache.StepsDone(1);
  const auto changes = cache.Update(std::vector<FeatureNeed>{{"b", 10}, {"d", 10}});
  EXPECT_THAT(changes.evict, ElementsAre("c"));  // b is needed, a was used after c
  EXPECT_THAT(changes.encode, ElementsAre(1));
}

TEST(FeatureCacheTest, NeverEvictsWhatAStepInFlightNames) {
  FeatureCache cache(Limits(10));
  cache.Update(std::vector<FeatureNeed>{{"a", 10}});
  EXPECT_THAT(cache.Update(std::vector<FeatureNeed>{{"b", 10}}).encode, IsEmpty());  // a is being encoded
  cache.Encoded("a");
  cache.UsedBy("a", 7);
  cache.StepsDone(6);
  EXPECT_THAT(cache.Update(std::vector<FeatureNeed>{{"b", 10}}).encode, IsEmpty());
  cache.StepsDone(7);
  const auto changes = cache.Update(std::vector<FeatureNeed>{{"b", 10}});
  EXPECT_THAT(changes.evict, ElementsAre("a"));
  EXPECT_THAT(changes.encode, ElementsAre(0));
}

TEST(FeatureCacheTest, AnEarlierNeedTakesTheRoomOfALaterOneAndNotTheOtherWayRound) {
  FeatureCache cache(Limits(20));
  cache.Update(std::vector<FeatureNeed>{{"late", 20}});
  cache.Encoded("late");
  const std::vector<FeatureNeed> needs = {{"early", 15}, {"late", 20}};
  const auto changes = cache.Update(needs);
  EXPECT_THAT(changes.evict, ElementsAre("late"));
  EXPECT_THAT(changes.encode, ElementsAre(0));
  cache.Encoded("early");
  EXPECT_THAT(cache.Update(needs).encode, IsEmpty());
  EXPECT_TRUE(cache.Ready("early"));
}

TEST(FeatureCacheTest, StopsAtTheFirstThatMustWait) {
  FeatureCache cache(Limits(20));
  const std::vector<FeatureNeed> needs = {{"a", 15}, {"b", 15}, {"small", 5}};
  EXPECT_THAT(cache.Update(needs).encode, ElementsAre(0));
}

TEST(FeatureCacheTest, AFailedPictureIsForgotten) {
  FeatureCache cache(Limits(20));
  cache.Update(std::vector<FeatureNeed>{{"a", 15}});
  EXPECT_TRUE(cache.Failed("a"));
  EXPECT_FALSE(cache.Failed("a"));
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(cache.encoding(), 0);
  EXPECT_THAT(cache.Update(std::vector<FeatureNeed>{{"a", 15}}).encode, ElementsAre(0));
}

TEST(FeatureCacheTest, APassKeepsItsBudgetAndTheNextOneWaitsForIt) {
  FeatureCache cache({.bytes = 1000, .row_bytes = 1, .encoding = 8, .pass_tiles = 6});
  const auto need = [](const char* key, int64_t tiles) {
    return FeatureNeed{.key = key, .rows = 1, .tiles = tiles};
  };
  EXPECT_THAT(cache.Update(std::vector{need("a", 2)}).encode, ElementsAre(0));
  std::vector needs = {need("a", 2), need("b", 2), need("c", 3), need("d", 2), need("e", 1)};
  EXPECT_THAT(cache.Update(needs).encode, IsEmpty());
  cache.Encoded("a");
  EXPECT_THAT(cache.Update(needs).encode, ElementsAre(1, 2)) << "d would be the seventh tile; e has to wait";
  cache.Encoded("b");
  EXPECT_THAT(cache.Update(needs).encode, IsEmpty());
  EXPECT_TRUE(cache.Failed("c"));
  needs = {need("large", 9), need("d", 2)};
  EXPECT_THAT(cache.Update(needs).encode, ElementsAre(0)) << "a picture over the budget goes alone";
}

TEST(FeatureCacheTest, WhatNobodyNeedsAnyMoreIsWithdrawnOnce) {
  FeatureCache cache(Limits(100));
  const std::vector<FeatureNeed> needs = {{"a", 10}, {"b", 10}, {"c", 10}};
  cache.Update(needs);
  cache.Encoded("a");
  const std::vector<FeatureNeed> left = {{"c", 10}};
  EXPECT_THAT(cache.Update(left).withdraw, ElementsAre("b")) << "a is kept";
  EXPECT_THAT(cache.Update(left).withdraw, IsEmpty());
  EXPECT_EQ(cache.encoding(), 2);

  // Somebody needs it again before the answer: it is asked for anew behind it, and nobody is told of a
  // failure.
  EXPECT_THAT(cache.Update(needs).encode, IsEmpty());
  EXPECT_FALSE(cache.Failed("b"));
  EXPECT_THAT(cache.Update(needs).encode, ElementsAre(1));
  EXPECT_TRUE(cache.Failed("b")) << "this time it was asked for";
}

TEST(FeatureCacheTest, AWithdrawalThatComesTooLateLosesNothing) {
  FeatureCache cache(Limits(100));
  cache.Update(std::vector<FeatureNeed>{{"a", 10}});
  EXPECT_THAT(cache.Update({}).withdraw, ElementsAre("a"));
  EXPECT_TRUE(cache.Encoded("a"));
  EXPECT_TRUE(cache.Ready("a"));
  EXPECT_THAT(cache.Update(std::vector<FeatureNeed>{{"a", 10}}).encode, IsEmpty());
}

}  // namespace
}  // namespace fulger
