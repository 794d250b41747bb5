#include "coordinator/blocks/id_pool.h"

#include <gtest/gtest.h>

#include <vector>

namespace fulger {
namespace {

TEST(IdPoolTest, GivesTheLowestFreshIdAndReusesTheLastFreed) {
  IdPool pool("block", 4);
  EXPECT_EQ(pool.Take(), 0);
  EXPECT_EQ(pool.Take(), 1);
  EXPECT_EQ(pool.Take(), 2);
  pool.Release(std::vector<int32_t>{0, 1}, /*last_step=*/0);
  EXPECT_EQ(pool.free(), 3);
  EXPECT_EQ(pool.Take(), 1);
  EXPECT_EQ(pool.Take(), 0);
  EXPECT_EQ(pool.Take(), 3);
  EXPECT_EQ(pool.free(), 0);
  EXPECT_EQ(pool.owned(), 4);
}

TEST(IdPoolTest, WaitsForTheStepsThatNameAnId) {
  IdPool pool("block", 3);
  for (int i = 0; i < 3; ++i) pool.Take();
  pool.StepsDone(4);
  pool.Release(std::vector<int32_t>{1}, /*last_step=*/6);
  pool.Release(std::vector<int32_t>{2}, /*last_step=*/5);
  pool.Release(std::vector<int32_t>{0}, /*last_step=*/4);  // already answered
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.releasing(), 2);
  pool.StepsDone(5);
  EXPECT_EQ(pool.free(), 2);
  EXPECT_EQ(pool.releasing(), 1);
  EXPECT_EQ(pool.Take(), 2);
  pool.StepsDone(7);
  EXPECT_EQ(pool.releasing(), 0);
  EXPECT_EQ(pool.free(), 2);
  EXPECT_EQ(pool.owned(), 1);
}

TEST(IdPoolTest, AHugePoolCostsNothing) {
  IdPool pool("block", INT32_MAX);
  EXPECT_EQ(pool.Take(), 0);
  EXPECT_EQ(pool.free(), INT32_MAX - 1);
}

TEST(IdPoolTest, ASharedIdIsFreeWhenTheLastOwnerAndKeeperIsGone) {
  IdPool pool("block", 3);
  const std::vector<int32_t> id = {pool.Take()};
  pool.Own(id);
  pool.Keep(id);
  pool.Release(id, /*last_step=*/5);
  pool.Release(id, /*last_step=*/3);
  EXPECT_EQ(pool.releasing(), 1);  // until step 5, although its last owner named it in step 3
  pool.StepsDone(3);
  EXPECT_EQ(pool.releasing(), 1);
  pool.StepsDone(5);
  EXPECT_EQ(pool.kept(), 1);
  EXPECT_TRUE(pool.is_kept(id[0]));
  EXPECT_EQ(pool.free(), 2);
  pool.Own(id);
  EXPECT_EQ(pool.kept(), 0);
  pool.Unkeep(id);
  EXPECT_EQ(pool.owned(), 1);
  pool.Release(id, /*last_step=*/5);
  EXPECT_EQ(pool.free(), 3);
}

TEST(IdPoolTest, AnIdThatIsOwnedAgainWhileReleasingStays) {
  IdPool pool("block", 3);
  const std::vector<int32_t> id = {pool.Take()};
  pool.Keep(id);
  pool.Release(id, /*last_step=*/2);
  pool.Own(id);
  pool.StepsDone(2);
  EXPECT_EQ(pool.owned(), 1);
  pool.Release(id, /*last_step=*/4);
  pool.Unkeep(id);
  EXPECT_EQ(pool.releasing(), 1);
  pool.StepsDone(4);
  EXPECT_EQ(pool.free(), 3);
}

using IdPoolDeathTest = testing::Test;
TEST(IdPoolDeathTest, DoubleFreeAndForeignIdsAreBugs) {
  IdPool pool("slot", 2);
  pool.Take();
  EXPECT_DEATH(pool.Release(std::vector<int32_t>{1}, 0), "slot 1: never taken");
  pool.Release(std::vector<int32_t>{0}, 3);
  EXPECT_DEATH(pool.Release(std::vector<int32_t>{0}, 3), "slot 0: released twice");
  pool.StepsDone(3);
  EXPECT_DEATH(pool.Release(std::vector<int32_t>{0}, 3), "slot 0: released twice");
  pool.Take();
  pool.Take();
  EXPECT_DEATH(pool.Take(), "all 2 taken");
}

}  // namespace
}  // namespace fulger
