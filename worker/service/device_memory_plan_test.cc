#include "worker/service/device_memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/config.h"
#include "model/cost/rank_memory.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kGiB = int64_t{1} << 30;

// VL-01 in bfloat16 on eight GPUs, the vision tower on a ninth.
class DeviceMemoryPlanTest : public ::testing::Test {
 protected:
  DeviceMemoryPlanTest() {
    plan_ = *MakePlan(config_, Layout{.tp = 8, .ep = 8, .vision = 1});
    table_ = TensorTable(config_);
    held_.assign(table_.size(), DType::kBF16);
    assign_.set_block_size(16);
    assign_.set_max_step_tokens(2048);
    assign_.set_max_sequences(64);
    assign_.set_min_sequences(2);
    assign_.set_max_context(131072);
    assign_.set_min_cache_tokens(16);
    assign_.set_reserve_bytes(2 * kGiB);
  }
  absl::StatusOr<DeviceMemoryPlan> Make(int64_t free, int64_t total, int ranks = 1, int rank = 0) {
    const DeviceRoom room{
        .device = "cuda:0 (a card)", .memory = {.free = free, .total = total}, .ranks = ranks};
    return PlanDeviceMemory(config_, plan_, rank, table_, held_, assign_, room);
  }
  // As the rank will report it.
  int64_t Total(const RunnerOptions& options, int rank = 0) const {
    return MemoryOfRank(config_, plan_, table_, rank, held_, options.sizes()).total() +
           assign_.reserve_bytes();
  }

  ModelConfig config_ = ReleasedVl01Config();
  Plan plan_;
  std::vector<TensorSpec> table_;
  std::vector<DType> held_;
  v1::Assign assign_;
};

TEST_F(DeviceMemoryPlanTest, TheCacheGetsWhatIsLeft) {
  ASSERT_OK_AND_ASSIGN(const DeviceMemoryPlan made, Make(139 * kGiB, 140 * kGiB));
  EXPECT_EQ(made.options.slots, 64);
  EXPECT_LE(Total(made.options), 139 * kGiB);
  RunnerOptions more = made.options;
  ++more.blocks;
  EXPECT_TRUE(Total(more) > 139 * kGiB || made.options.blocks == 64 * 131072 / 16) << made.arithmetic;
  EXPECT_THAT(made.arithmetic,
              AllOf(HasSubstr("cuda:0 (a card): weights "), HasSubstr("of 139.00 GiB free")));
}

TEST_F(DeviceMemoryPlanTest, NoMoreThanAllSequencesCanUse) {
  ASSERT_OK_AND_ASSIGN(const DeviceMemoryPlan made, Make(4000 * kGiB, 4000 * kGiB));
  EXPECT_EQ(made.options.blocks, 64 * 131072 / 16);
}

TEST_F(DeviceMemoryPlanTest, SlotsGiveWayToCacheUnlessTheyWereNamed) {
  const int64_t weights =
      MemoryOfRank(config_, plan_, table_, 0, held_, {.blocks = 0, .slots = 0}).weight_total();
  const int64_t tight = weights + 2 * kGiB + 3 * kGiB / 2;
  ASSERT_OK_AND_ASSIGN(const DeviceMemoryPlan made, Make(tight, 140 * kGiB));
  EXPECT_LT(made.options.slots, 64);
  EXPECT_GE(made.options.slots, 2);
  EXPECT_GE(made.options.blocks * 16, 16384);
  EXPECT_LE(Total(made.options), tight);
  assign_.set_min_sequences(64);
  EXPECT_THAT(Make(tight, 140 * kGiB).status(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("64 sequences and anchors")));
}

TEST_F(DeviceMemoryPlanTest, WhatWasAskedForIsKeptOrRefused) {
  assign_.set_cache_tokens(100000);
  ASSERT_OK_AND_ASSIGN(const DeviceMemoryPlan made, Make(139 * kGiB, 140 * kGiB));
  EXPECT_EQ(made.options.blocks, 6250);
  assign_.set_cache_tokens(int64_t{1} << 24);
  EXPECT_THAT(
      Make(139 * kGiB, 140 * kGiB).status(),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("keys and values of 16777216 tokens")));
}

TEST_F(DeviceMemoryPlanTest, TheRefusalHasTheArithmeticAndTheCure) {
  const absl::Status small = Make(79 * kGiB, 80 * kGiB).status();
  EXPECT_THAT(small, StatusIs(absl::StatusCode::kResourceExhausted,
                              AllOf(HasSubstr("rank 0 does not fit on cuda:0 (a card): weights "),
                                    HasSubstr("reserve for NCCL, scratch and pictures 2.00 GiB"),
                                    HasSubstr("79.00 GiB are free of 80.00 GiB; 1.00 GiB are held"),
                                    HasSubstr("more ranks (--tp, --pp)"), Not(HasSubstr("nvidia-smi")))));
  // It would fit if nobody else were there.
  EXPECT_THAT(Make(79 * kGiB, 140 * kGiB).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("61.00 GiB are held by other processes"),
                             HasSubstr("end what else runs there (nvidia-smi)"))));
}

TEST_F(DeviceMemoryPlanTest, RanksThatShareAGpuHaveTheirPartOfIt) {
  ASSERT_OK_AND_ASSIGN(const DeviceMemoryPlan alone, Make(300 * kGiB, 300 * kGiB));
  ASSERT_OK_AND_ASSIGN(const DeviceMemoryPlan shared, Make(300 * kGiB, 300 * kGiB, 2));
  EXPECT_LE(Total(shared.options), 150 * kGiB);
  EXPECT_LT(shared.options.blocks, alone.options.blocks);
  EXPECT_THAT(
      Make(300 * kGiB, 300 * kGiB, 4).status(),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("each of 4 ranks may have 75.00 GiB")));
}

TEST_F(DeviceMemoryPlanTest, AVisionRankHasNoCaches) {
  ASSERT_OK_AND_ASSIGN(const DeviceMemoryPlan made, Make(8 * kGiB, 8 * kGiB, 1, 8));
  EXPECT_EQ(made.options.blocks, 0);
  EXPECT_THAT(made.arithmetic, Not(HasSubstr("keys and values")));
  EXPECT_THAT(Make(2 * kGiB, 8 * kGiB, 1, 8).status(),
              StatusIs(absl::StatusCode::kResourceExhausted, Not(HasSubstr("--cache-tokens"))));
}

}  // namespace
}  // namespace fulger
