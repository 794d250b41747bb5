#include "coordinator/blocks/anchor_positions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <vector>

namespace fulger {

void PrintTo(const AnchorPosition& at, std::ostream* out) {
  *out << at.position << (at.value == AnchorValue::kBorder ? " border" : " interval");
}

namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr AnchorRules kRules = {.interval = 100, .min_gap = 20};
AnchorPosition Border(int64_t position) { return {.position = position, .value = AnchorValue::kBorder}; }
AnchorPosition Interval(int64_t position) { return {.position = position, .value = AnchorValue::kInterval}; }

TEST(ChooseAnchorsTest, BordersPicturesAndMultiples) {
  const std::vector<int64_t> borders = {40, 160, 390};
  const std::vector<ImageRun> images = {{.key = "k", .position = 200, .rows = 50}};
  EXPECT_THAT(ChooseAnchors(400, borders, images, kRules, 0),
              ElementsAre(Border(40), Interval(100), Border(160), Interval(200), Border(250), Interval(300),
                          Border(390)));
}

TEST(ChooseAnchorsTest, CloseOnesAreLeftOutButTheLastBorderStays) {
  const std::vector<int64_t> borders = {10, 30, 45, 90, 105};
  // 10 is too near the beginning, 45 to 30; the multiple 100 to the borders beside it.
  EXPECT_THAT(ChooseAnchors(110, borders, {}, kRules, 0), ElementsAre(Border(30), Border(90), Border(105)));
}

TEST(ChooseAnchorsTest, NothingAtOrAfterTheLastTokenOfThePrompt) {
  const std::vector<int64_t> borders = {99, 100, 150};
  EXPECT_THAT(ChooseAnchors(100, borders, {}, kRules, 0), ElementsAre(Border(99)));
  EXPECT_THAT(ChooseAnchors(19, std::vector<int64_t>{10}, {}, kRules, 0), IsEmpty());
}

TEST(ChooseAnchorsTest, WithoutAnIntervalOnlyBorders) {
  EXPECT_THAT(ChooseAnchors(1000, {}, {}, {.interval = 0, .min_gap = 20}, 0), IsEmpty());
  EXPECT_THAT(ChooseAnchors(250, {}, {}, kRules, 0), ElementsAre(Interval(100), Interval(200)));
}

TEST(ChooseAnchorsTest, CopiesGoOnBeforeTheLastTokenWhereThatSavesEnough) {
  EXPECT_THAT(ChooseAnchors(21, {}, {}, kRules, 1), ElementsAre(Interval(20)));
  EXPECT_THAT(ChooseAnchors(20, {}, {}, kRules, 1), IsEmpty());
  EXPECT_THAT(ChooseAnchors(6, {}, {}, kRules, 4), ElementsAre(Interval(5)));
  EXPECT_THAT(ChooseAnchors(1, {}, {}, kRules, 100), IsEmpty());
  const std::vector<int64_t> borders = {96};
  EXPECT_THAT(ChooseAnchors(100, borders, {}, kRules, 2), ElementsAre(Border(96))) << "three tokens each";
  EXPECT_THAT(ChooseAnchors(100, borders, {}, kRules, 7), ElementsAre(Border(96), Interval(99)));
  EXPECT_THAT(ChooseAnchors(100, std::vector<int64_t>{99}, {}, kRules, 100), ElementsAre(Border(99)));
}

}  // namespace
}  // namespace fulger
