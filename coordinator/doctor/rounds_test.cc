#include "coordinator/doctor/rounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace fulger {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<std::vector<int>> Nodes(int nodes, int ranks_each) {
  std::vector<std::vector<int>> all(static_cast<size_t>(nodes),
                                    std::vector<int>(static_cast<size_t>(ranks_each)));
  int next = 0;
  for (std::vector<int>& ranks : all) {
    std::iota(ranks.begin(), ranks.end(), next);
    next += ranks_each;
  }
  return all;
}

TEST(PlanRounds, OneRankHasNobodyToTalkTo) { EXPECT_THAT(PlanRounds({{0}}, 10).rounds, IsEmpty()); }

TEST(PlanRounds, AFewRanksOfOneNodeAllMeetAlone) {
  EXPECT_THAT(
      PlanRounds({{0, 1, 2}}, 10).rounds,
      ElementsAre(ElementsAre(RankPair(0, 1)), ElementsAre(RankPair(0, 2)), ElementsAre(RankPair(1, 2))));
}

TEST(PlanRounds, AFewNodesMeetOnePairAtATime) {
  const Rounds plan = PlanRounds(Nodes(3, 4), 10);
  EXPECT_TRUE(plan.one_pair_at_a_time);
  ASSERT_THAT(plan.rounds, SizeIs(6));
  EXPECT_THAT(plan.rounds[0], ElementsAre(RankPair(0, 4)));
  EXPECT_THAT(plan.rounds[1], ElementsAre(RankPair(0, 8)));
  EXPECT_THAT(plan.rounds[2], ElementsAre(RankPair(4, 8)));
  // Then within all nodes at once: the farthest rank, one in the middle, the nearest.
  EXPECT_THAT(plan.rounds[3], ElementsAre(RankPair(0, 3), RankPair(4, 7), RankPair(8, 11)));
  EXPECT_THAT(plan.rounds[4], ElementsAre(RankPair(0, 2), RankPair(4, 6), RankPair(8, 10)));
  EXPECT_THAT(plan.rounds[5], ElementsAre(RankPair(0, 1), RankPair(4, 5), RankPair(8, 9)));
}

TEST(PlanRounds, ManyNodesMeetAllOthersOnceAndNeverTwoAtATime) {
  for (const int nodes : {10, 11, 64}) {
    const Rounds plan = PlanRounds(Nodes(nodes, 1), 30);
    EXPECT_FALSE(plan.one_pair_at_a_time);
    EXPECT_THAT(plan.rounds, SizeIs(static_cast<size_t>(nodes - 1 + nodes % 2)));
    std::set<RankPair> met;
    for (const std::vector<RankPair>& round : plan.rounds) {
      std::set<int> busy;
      for (const auto& [one, other] : round) {
        EXPECT_LT(one, other);
        EXPECT_TRUE(busy.insert(one).second && busy.insert(other).second);
        EXPECT_TRUE(met.emplace(one, other).second);
      }
    }
    EXPECT_THAT(met, SizeIs(static_cast<size_t>(nodes * (nodes - 1) / 2)));
  }
}

TEST(PlanRounds, TheTimeIsBounded) {
  for (const int nodes : {2, 9, 100, 1000}) {
    const Rounds plan = PlanRounds(Nodes(nodes, 8), 12);
    EXPECT_LE(static_cast<double>(plan.rounds.size()) * plan.seconds, 12.01) << nodes;
    EXPECT_GE(plan.seconds, 0.04);
    EXPECT_LE(plan.seconds, 0.3);
  }
}

}  // namespace
}  // namespace fulger
