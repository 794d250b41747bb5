#include "coordinator/scheduler/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <vector>

namespace fulger {

// gtest prints these when an expectation fails.
void PrintTo(const PlannedRow& row, std::ostream* out) {
  *out << (row.admits ? "waiting " : "running ") << row.index << ": " << row.position << "+" << row.count
       << " blocks+" << row.new_blocks << " result of " << row.result_of_step << " sample " << row.sample;
}

namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr ScheduleLimits kLimits = {
    .step = 10, .step_tokens = 8, .block_size = 4, .free_blocks = 100, .free_slots = 10, .max_running = 10};

// A prompt of `known` ids of which `planned` are in plans; holds the blocks that it needs.
SequenceView Prefilling(int64_t known, int64_t planned) {
  return {.known = known,
          .limit = known + 100,
          .available = known,
          .planned = planned,
          .blocks = BlocksFor(planned, 4),
          .sole = BlocksFor(planned, 4),
          .last_step = planned > 0 ? 9u : 0u};
}
// Runs position `planned` next, the token that step `last_step` samples.
SequenceView Decoding(int64_t planned, uint64_t last_step, int64_t in_flight = 0) {
  return {.known = 1,
          .limit = 1000,
          .available = 1,
          .planned = planned,
          .blocks = BlocksFor(planned, 4),
          .sole = BlocksFor(planned, 4),
          .in_flight = in_flight,
          .last_step = last_step,
          .sampled_by = last_step};
}
PlannedRow Decode(size_t index, int64_t position, uint64_t step, int64_t new_blocks = 0) {
  return {.index = index,
          .position = position,
          .count = 1,
          .new_blocks = new_blocks,
          .result_of_step = step,
          .sample = true};
}

TEST(ScheduleTest, DecodesFirstThenRunningPrefillThenAdmission) {
  const std::vector<SequenceView> running = {Decoding(7, 9, 1), Prefilling(6, 3), Decoding(4, 8)};
  const std::vector<SequenceView> waiting = {Prefilling(3, 0), Prefilling(2, 0)};
  const Decision d = Schedule(running, waiting, kLimits);
  EXPECT_THAT(d.preempted, IsEmpty());
  EXPECT_THAT(
      d.rows,
      ElementsAre(
          Decode(2, 4, 8, /*new_blocks=*/1), Decode(0, 7, 9),
          PlannedRow{.index = 1, .position = 3, .count = 3, .new_blocks = 1, .sample = true},
          // 8 - 2 - 3 tokens are left, and the last one waits.
          PlannedRow{
              .admits = true, .index = 0, .position = 0, .count = 3, .new_blocks = 1, .sample = true}));
}

// A prompt that the budget does not do for takes half of it, then what others leave.
TEST(ScheduleTest, ALongPromptLetsShortOnesPass) {
  const std::vector<SequenceView> running = {Prefilling(100, 8)};
  const std::vector<SequenceView> waiting = {Prefilling(2, 0), Prefilling(1, 0)};
  EXPECT_THAT(
      Schedule(running, waiting, kLimits).rows,
      ElementsAre(PlannedRow{.index = 0, .position = 8, .count = 5, .new_blocks = 2},
                  PlannedRow{.admits = true, .index = 0, .count = 2, .new_blocks = 1, .sample = true},
                  PlannedRow{.admits = true, .index = 1, .count = 1, .new_blocks = 1, .sample = true}));
  EXPECT_THAT(Schedule(running, {}, kLimits).rows,
              ElementsAre(PlannedRow{.index = 0, .position = 8, .count = 8, .new_blocks = 2}));
  const std::vector<SequenceView> long_ones = {Prefilling(50, 0), Prefilling(70, 0)};
  EXPECT_THAT(Schedule(running, long_ones, kLimits).rows,
              ElementsAre(PlannedRow{.index = 0, .position = 8, .count = 4, .new_blocks = 1},
                          PlannedRow{.admits = true, .index = 0, .count = 2, .new_blocks = 1},
                          PlannedRow{.admits = true, .index = 1, .count = 2, .new_blocks = 1}));
}

// However long the prompts: no step is longer than the budget, and every decode that can run is in it.
TEST(ScheduleTest, PrefillsNeverPushDecodesOut) {
  std::vector<SequenceView> running = {Prefilling(100000, 40), Prefilling(100000, 0)};
  for (int i = 0; i < 6; ++i) running.push_back(Decoding(5, 9));
  const Decision d = Schedule(running, std::vector{Prefilling(100000, 0)}, kLimits);
  int64_t tokens = 0, decodes = 0;
  for (const PlannedRow& row : d.rows) {
    tokens += row.count;
    decodes += row.result_of_step != 0 ? 1 : 0;
  }
  EXPECT_EQ(tokens, kLimits.step_tokens);
  EXPECT_EQ(decodes, 6);
}

SequenceView WithPriority(SequenceView s, int32_t priority, int64_t rank) {
  s.priority = priority;
  s.rank = rank;
  return s;
}

TEST(ScheduleTest, ABetterPriorityTakesThePlaceOfTheLast) {
  const std::vector<SequenceView> running = {WithPriority(Decoding(6, 9), 0, 1),
                                             WithPriority(Decoding(5, 9), 1, 300),
                                             WithPriority(Decoding(7, 9), 1, 301)};
  ScheduleLimits limits = kLimits;
  limits.max_running = 3;
  Decision d = Schedule(running, std::vector{WithPriority(Prefilling(2, 0), 0, 50)}, limits);
  EXPECT_THAT(d.displaced, ElementsAre(2));
  EXPECT_THAT(d.preempted, IsEmpty());
  EXPECT_THAT(d.rows, ElementsAre(Decode(0, 6, 9), Decode(1, 5, 9),
                                  PlannedRow{.admits = true, .count = 2, .new_blocks = 1, .sample = true}));
  // Not of an equal one, and not of one that has come to rank before it in the meantime.
  EXPECT_THAT(Schedule(running, std::vector{WithPriority(Prefilling(2, 0), 1, 302)}, limits).displaced,
              IsEmpty());
  EXPECT_THAT(Schedule(running, std::vector{WithPriority(Prefilling(2, 0), 0, 400)}, limits).displaced,
              IsEmpty());
  // With places left nobody goes.
  limits.max_running = 4;
  EXPECT_THAT(Schedule(running, std::vector{WithPriority(Prefilling(2, 0), 0, 50)}, limits).displaced,
              IsEmpty());
}

TEST(ScheduleTest, ABetterPriorityTakesBlocksWhereTheyDo) {
  const std::vector<SequenceView> running = {WithPriority(Decoding(6, 9), 0, 1),
                                             WithPriority(Decoding(9, 9), 1, 301)};
  ScheduleLimits limits = kLimits;
  limits.free_blocks = 1;
  const Decision d = Schedule(running, std::vector{WithPriority(Prefilling(16, 0), 0, 50)}, limits);
  EXPECT_THAT(d.preempted, ElementsAre(1));  // 1 + 3 blocks
  EXPECT_THAT(d.displaced, IsEmpty());
  EXPECT_EQ(d.rows.size(), 2u);
  const Decision too_large = Schedule(running, std::vector{WithPriority(Prefilling(17, 0), 0, 50)}, limits);
  EXPECT_THAT(too_large.preempted, IsEmpty());  // it would not fit all the same
}

TEST(ScheduleTest, AnAnchorShortensAnAdmission) {
  SequenceView s = Prefilling(10, 0);
  s.planned = 6;
  s.blocks = 1;  // shared; the second is copied
  s.pins = 2;    // nobody but the anchor has them
  ScheduleLimits limits = kLimits;
  limits.free_blocks = 4;
  EXPECT_THAT(Schedule({}, std::vector{s}, limits).rows,
              ElementsAre(PlannedRow{
                  .admits = true, .index = 0, .position = 6, .count = 4, .new_blocks = 2, .sample = true}));
  limits.free_blocks = 3;
  EXPECT_THAT(Schedule({}, std::vector{s}, limits).rows, IsEmpty());
}

TEST(ScheduleTest, AShortPromptSamplesAtOnce) {
  const std::vector<SequenceView> waiting = {Prefilling(2, 0), Prefilling(5, 0)};
  EXPECT_THAT(
      Schedule({}, waiting, kLimits).rows,
      ElementsAre(PlannedRow{.admits = true, .index = 0, .count = 2, .new_blocks = 1, .sample = true},
                  PlannedRow{.admits = true, .index = 1, .count = 5, .new_blocks = 2, .sample = true}));
}

TEST(ScheduleTest, TheTokenThatEndsASequenceIsNotRun) {
  SequenceView s = Decoding(7, 9);
  s.limit = 7;
  EXPECT_THAT(Schedule(std::vector{s}, {}, kLimits).rows, IsEmpty());
}

TEST(ScheduleTest, AdmissionStopsAtSlotsPlacesAndBlocks) {
  const std::vector<SequenceView> waiting = {Prefilling(4, 0), Prefilling(5, 0), Prefilling(1, 0)};
  ScheduleLimits limits = kLimits;
  limits.free_slots = 1;
  EXPECT_EQ(Schedule({}, waiting, limits).rows.size(), 1u);
  limits.free_slots = 10;
  limits.max_running = 2;
  EXPECT_EQ(Schedule({}, waiting, limits).rows.size(), 2u);
  limits.max_running = 10;
  limits.free_blocks = 2;  // the second needs 2, and the third may not overtake it
  EXPECT_THAT(
      Schedule({}, waiting, limits).rows,
      ElementsAre(PlannedRow{.admits = true, .index = 0, .count = 4, .new_blocks = 1, .sample = true}));
}

TEST(ScheduleTest, AdmissionLeavesTheBlocksThatRunningPrefillsWillTake) {
  const std::vector<SequenceView> running = {Prefilling(40, 4)};  // 9 blocks to come, 1 of them now
  const std::vector<SequenceView> waiting = {Prefilling(4, 0)};
  ScheduleLimits limits = kLimits;
  limits.step_tokens = 5;
  limits.free_blocks = 9;
  limits.step_tokens = 40;
  EXPECT_EQ(Schedule(running, waiting, limits).rows.size(), 1u);
  limits.free_blocks = 10;
  EXPECT_EQ(Schedule(running, waiting, limits).rows.size(), 2u);
}

TEST(ScheduleTest, APreemptedSequenceWaitsForItsTokensInFlight) {
  std::vector<SequenceView> waiting = {Prefilling(4, 0), Prefilling(1, 0)};
  waiting[0].in_flight = 1;  // they will add to its ids; and nobody overtakes it
  EXPECT_THAT(Schedule({}, waiting, kLimits).rows, IsEmpty());
}

TEST(ScheduleTest, AChunkStopsAtAPictureThatIsNotReady) {
  SequenceView head = Prefilling(9, 0);
  head.available = 0;  // begins with the picture: passed over
  SequenceView second = Prefilling(9, 0);
  second.available = 3;
  const std::vector<SequenceView> waiting = {head, second};
  EXPECT_THAT(Schedule({}, waiting, kLimits).rows,
              ElementsAre(PlannedRow{.admits = true, .index = 1, .count = 3, .new_blocks = 1}));
  SequenceView stuck = Prefilling(9, 3);
  stuck.available = 3;
  EXPECT_THAT(Schedule(std::vector{stuck}, {}, kLimits).rows, IsEmpty());
}

TEST(ScheduleTest, ABurstOfPicturesHoldsOnePlace) {
  SequenceView picture = Prefilling(9, 0);
  picture.available = 3;  // then the picture
  picture.awaits = true;
  const SequenceView text = Prefilling(2, 0);
  ScheduleLimits limits = kLimits;
  limits.max_running = 3;
  // The first runs up to its picture; those behind it are passed over, the text is not.
  const std::vector<SequenceView> waiting = {picture, picture, picture, text};
  EXPECT_THAT(
      Schedule({}, waiting, limits).rows,
      ElementsAre(PlannedRow{.admits = true, .index = 0, .count = 3, .new_blocks = 1},
                  PlannedRow{.admits = true, .index = 3, .count = 2, .new_blocks = 1, .sample = true}));
  // It waits for its picture, and nobody else need.
  SequenceView stuck = Prefilling(9, 3);
  stuck.available = 3;
  stuck.awaits = true;
  EXPECT_THAT(
      Schedule(std::vector{stuck}, waiting, limits).rows,
      ElementsAre(PlannedRow{.admits = true, .index = 3, .count = 2, .new_blocks = 1, .sample = true}));
  // One that is passed over stops nobody by the blocks that it would need.
  limits.free_blocks = 3;  // two are for the one that runs
  EXPECT_THAT(
      Schedule(std::vector{stuck}, waiting, limits).rows,
      ElementsAre(PlannedRow{.admits = true, .index = 3, .count = 2, .new_blocks = 1, .sample = true}));
}

TEST(ScheduleTest, ASmallBudgetGoesRoundTheDecodes) {
  const std::vector<SequenceView> running = {Decoding(5, 9), Decoding(5, 8), Decoding(5, 7)};
  ScheduleLimits limits = kLimits;
  limits.step_tokens = 2;
  EXPECT_THAT(Schedule(running, {}, limits).rows, ElementsAre(Decode(2, 5, 7), Decode(1, 5, 8)));
}

TEST(ScheduleTest, AShortageTakesFromTheYoungestAndStopsAdmission) {
  const std::vector<SequenceView> running = {Decoding(8, 9), Decoding(6, 9), Decoding(9, 9)};
  const std::vector<SequenceView> waiting = {Prefilling(1, 0)};
  ScheduleLimits limits = kLimits;
  limits.free_blocks = 0;
  const Decision d = Schedule(running, waiting, limits);
  EXPECT_THAT(d.preempted, ElementsAre(2));  // gives 3 blocks now: nothing of it is in flight
  EXPECT_THAT(d.rows, ElementsAre(Decode(0, 8, 9, /*new_blocks=*/1), Decode(1, 6, 9)));
}

TEST(ScheduleTest, AShortageWaitsForBlocksOfStepsInFlight) {
  const std::vector<SequenceView> running = {Decoding(8, 9), Decoding(9, 9, /*in_flight=*/1)};
  ScheduleLimits limits = kLimits;
  limits.free_blocks = 0;
  Decision d = Schedule(running, {}, limits);
  EXPECT_THAT(d.preempted, ElementsAre(1));
  EXPECT_THAT(d.rows, IsEmpty());
  limits.releasing_blocks = 1;  // enough is on its way: nobody else is preempted, the younger one goes on
  d = Schedule(running, {}, limits);
  EXPECT_THAT(d.preempted, IsEmpty());
  EXPECT_THAT(d.rows, ElementsAre(Decode(1, 9, 9)));
}

TEST(ScheduleTest, TheYoungestNeverTakesFromOlderOnes) {
  const std::vector<SequenceView> running = {Decoding(7, 9), Decoding(8, 9)};
  ScheduleLimits limits = kLimits;
  limits.free_blocks = 0;
  const Decision d = Schedule(running, {}, limits);
  EXPECT_THAT(d.preempted, IsEmpty());
  EXPECT_THAT(d.rows, ElementsAre(Decode(0, 7, 9)));
}

TEST(ScheduleTest, APrefillShrinksToTheBlocksThatAreLeft) {
  const std::vector<SequenceView> running = {Prefilling(30, 3)};
  ScheduleLimits limits = kLimits;
  limits.free_blocks = 1;
  EXPECT_THAT(Schedule(running, {}, limits).rows,
              ElementsAre(PlannedRow{.index = 0, .position = 3, .count = 5, .new_blocks = 1}));
}

// Four stages, step 10: tokens sampled by step 6 or before are out.
TEST(ScheduleTest, StagesShareTheSequencesOut) {
  ScheduleLimits limits = kLimits;
  limits.stages = 4;
  std::vector<SequenceView> running = {Decoding(5, 9, 1), Decoding(5, 9, 1), Decoding(5, 8, 1),
                                       Decoding(5, 7, 1), Decoding(5, 6, 1), Decoding(5, 6, 1),
                                       Decoding(5, 6, 1)};
  // ceil(7 / 4) = 2 in a step, although three are out.
  EXPECT_THAT(Schedule(running, {}, limits).rows, ElementsAre(Decode(4, 5, 6), Decode(5, 5, 6)));
}

TEST(ScheduleTest, AFewSequencesDoNotLeaveThePipelineIdle) {
  ScheduleLimits limits = kLimits;
  limits.stages = 4;
  // Nobody's token is out: the group that waits longest goes on by feedback.
  std::vector<SequenceView> running = {Decoding(5, 9, 1), Decoding(5, 8, 1)};
  EXPECT_THAT(Schedule(running, {}, limits).rows, ElementsAre(Decode(1, 5, 8)));
  // But not when a prefill can run in the meantime.
  running.push_back(Prefilling(9, 4));
  EXPECT_THAT(
      Schedule(running, {}, limits).rows,
      ElementsAre(PlannedRow{.index = 2, .position = 4, .count = 5, .new_blocks = 2, .sample = true}));
  // And not with more than two rows of a sequence in flight.
  running = {Decoding(5, 9, 2)};
  EXPECT_THAT(Schedule(running, {}, limits).rows, IsEmpty());
}

}  // namespace
}  // namespace fulger
