// Which pictures a pass takes.
#include "worker/service/picture_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace fulger {
namespace {

using testing::ElementsAre;

Picture Make(std::string key, int64_t tiles, bool more = false) {
  return std::make_shared<PictureTiles>(PictureTiles{.key = std::move(key), .tiles = tiles, .more = more});
}

std::vector<std::string> NextPass(PictureQueue& queue) {
  std::vector<std::string> keys;
  for (const Picture& picture : queue.NextPass()) keys.push_back(picture->key);
  return keys;
}

TEST(PictureQueue, AVisionRankTakesWhatWaitsInOrderAndWithinABatch) {
  static_assert(kTilesPerBatch == 8);
  PictureQueue queue(/*vision_rank=*/true);
  EXPECT_FALSE(queue.ready());
  for (const char* key : {"a", "b", "c"}) queue.Add(Make(key, 2));
  queue.Add(Make("d", 3));
  queue.Add(Make("e", 1));
  EXPECT_THAT(NextPass(queue), ElementsAre("a", "b", "c")) << "d is too much, and e does not overtake it";
  queue.Add(Make("large", 37));
  EXPECT_THAT(NextPass(queue), ElementsAre("d", "e"));
  queue.Add(Make("f", 2));
  EXPECT_THAT(NextPass(queue), ElementsAre("large")) << "a picture over the budget goes, alone";
  EXPECT_THAT(NextPass(queue), ElementsAre("f"));
  EXPECT_FALSE(queue.ready());
}

TEST(PictureQueue, AWithdrawnPictureIsInNoPass) {
  PictureQueue queue(/*vision_rank=*/true);
  for (const char* key : {"a", "b", "c"}) queue.Add(Make(key, 2));
  EXPECT_TRUE(queue.Withdraw("b"));
  EXPECT_FALSE(queue.Withdraw("b"));
  EXPECT_THAT(NextPass(queue), ElementsAre("a", "c"));
  EXPECT_FALSE(queue.Withdraw("a")) << "it has begun";
}

// Ranks that encode together see pictures and plans in one order, but not at one time.
TEST(PictureQueue, AStageWaitsForTheWholePassThatTheCoordinatorMade) {
  PictureQueue queue(/*vision_rank=*/false);
  queue.Add(Make("a", 20, /*more=*/true));
  EXPECT_FALSE(queue.ready());
  EXPECT_FALSE(queue.Withdraw("a")) << "the others would still wait for it";
  queue.Add(Make("b", 20));
  EXPECT_TRUE(queue.ready());
  EXPECT_THAT(NextPass(queue), ElementsAre("a", "b"));
  EXPECT_FALSE(queue.ready());
}

}  // namespace
}  // namespace fulger
