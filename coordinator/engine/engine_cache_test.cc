// Who runs which part of a prompt, and who goes before whom: counted in the plans that the engine sends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/engine_test_util.h"
#include "coordinator/engine/fake_backend.h"

namespace fulger {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kPrompt = 40;

std::vector<int32_t> Prompt() {
  std::vector<int32_t> ids(kPrompt);
  std::iota(ids.begin(), ids.end(), 100);
  return ids;
}

class EngineCacheTest : public testing::Test {
 protected:
  explicit EngineCacheTest(int64_t pass_tiles = 0)
      : core_({.max_running_requests = 8,
               .anchors = 4,
               .anchor_rules = {.interval = 0, .min_gap = 8},
               .max_step_tokens = 16,
               .max_context = 200,
               .max_images_encoding = 3,
               .pass_tiles = pass_tiles},
              {&backend_}, &clock_, nullptr, [this](const std::string& id) { ended_.push_back(id); }) {}
  ~EngineCacheTest() override { EXPECT_THAT(backend_.violations(), IsEmpty()); }

  std::shared_ptr<RecordingSink> Submit(EngineRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    core_.Submit(std::move(request), sink);
    core_.Pump();
    return sink;
  }
  void RunToEnd() {
    while (backend_.AnswerStep(&events_)) {
    }
  }
  // Rows of prompts in all plans so far.
  int64_t PromptRows() const {
    int64_t rows = 0;
    for (const auto& plan : backend_.plans()) {
      for (const v1::Row& row : plan->rows()) rows += row.result_of_step() == 0 ? row.count() : 0;
    }
    return rows;
  }

  ManualClock clock_;
  FakeBackend backend_{{.blocks = 100, .block_size = 4, .slots = 12, .max_step_tokens = 16, .stages = 1}};
  std::vector<std::string> ended_;
  EngineCore core_;
  CoreEvents events_{&core_};
};

TEST_F(EngineCacheTest, SeveralAnswersRunTheirPromptOnce) {
  constexpr int64_t kAnswers = 4;
  backend_.Up(&events_);
  std::vector<EngineRequest> requests;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int64_t i = 0; i < kAnswers; ++i) {
    requests.push_back(MakeRequest(std::to_string(i), Prompt(), 6));
    requests.back().sampling.set_choice(static_cast<uint32_t>(i));
    requests.back().copies = kAnswers - 1;
    sinks.push_back(Submit(requests.back()));
  }
  RunToEnd();
  EXPECT_EQ(PromptRows(), kPrompt + kAnswers - 1) << "the others run the last token, which draws theirs";
  for (size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_EQ(sinks[i]->tokens(), ToyReference(requests[i], 200).tokens);
    EXPECT_EQ(sinks[i]->done()->cached_tokens, i == 0 ? 0 : kPrompt - 1);
  }
}

TEST_F(EngineCacheTest, ScoresOfAPromptNeedEveryRow) {
  backend_.Up(&events_);
  EngineRequest first = MakeRequest("a", Prompt(), 2);
  first.borders = {kPrompt - 1};
  Submit(first);
  RunToEnd();
  const int64_t before = PromptRows();
  EngineRequest scored = MakeRequest("b", Prompt(), 2);
  scored.borders = {kPrompt - 1};
  scored.sampling.set_prompt_logprobs(1);
  const auto sink = Submit(scored);
  RunToEnd();
  EXPECT_EQ(PromptRows() - before, kPrompt);
  EXPECT_EQ(sink->done()->cached_tokens, 0);
  EXPECT_FALSE(sink->done()->cache.used);
  // Without scores it hits.
  EngineRequest again = MakeRequest("c", Prompt(), 2);
  EXPECT_EQ((Submit(again), RunToEnd(), PromptRows() - before), kPrompt + 1);
}

TEST_F(EngineCacheTest, ANextTurnHitsTheWholeAnswerBefore) {
  backend_.Up(&events_);
  EngineRequest turn = MakeRequest("a", Prompt(), 30);
  const std::vector<int32_t> all = ToyReference(turn, 200).tokens;
  turn.sampling.add_stop_ids(all[20]);
  const std::vector<int32_t> answer = ToyReference(turn, 200).tokens;
  ASSERT_FALSE(answer.empty());
  Submit(turn);
  RunToEnd();
  std::vector<int32_t> ids = Prompt();
  ids.insert(ids.end(), answer.begin(), answer.end());
  const auto end = static_cast<int64_t>(ids.size());
  ids.insert(ids.end(), {7, 8, 9});
  const EngineRequest next = MakeRequest("b", ids, 4);
  const auto sink = Submit(next);
  RunToEnd();
  EXPECT_EQ(sink->done()->cached_tokens, end);
  EXPECT_EQ(sink->tokens(), ToyReference(next, 200).tokens);
}

TEST_F(EngineCacheTest, APriorityReachesThePlanner) {
  backend_.Up(&events_);
  // Eight run, all of them with a worse priority than the last one, which takes the place of one.
  for (int i = 0; i < 8; ++i) Submit(MakeRequest(std::to_string(i), {1, 2, i}, 60));
  EngineRequest urgent = MakeRequest("urgent", {5, 6}, 3);
  urgent.priority = -1;
  Submit(urgent);
  Submit(MakeRequest("late", {5, 6, 7}, 3));
  RunToEnd();
  ASSERT_FALSE(ended_.empty());
  EXPECT_EQ(ended_.front(), "urgent");
}

TEST_F(EngineCacheTest, ABurstOfPicturesHoldsUpNoText) {
  backend_.Up(&events_);
  std::vector<std::shared_ptr<RecordingSink>> pictures;
  for (int i = 0; i < 30; ++i) {
    EngineRequest request = MakeRequest("picture " + std::to_string(i), {1, 0, 0, 0, 0, 2}, 3);
    request.images.push_back({.position = 1, .image = MakeImage("key " + std::to_string(i), 4)});
    pictures.push_back(Submit(std::move(request)));
  }
  EXPECT_EQ(backend_.encoded(), 3) << "no more are asked for at a time";
  const EngineRequest text = MakeRequest("text", {5, 6}, 8);
  const auto sink = Submit(text);
  // Not one picture is done: the text goes through from its first token to its last.
  RunToEnd();
  ASSERT_TRUE(sink->done().has_value());
  EXPECT_EQ(sink->tokens(), ToyReference(text, 200).tokens);
  EXPECT_EQ(backend_.encoded(), 3);
  while (backend_.AnswerPicture(&events_) || backend_.AnswerStep(&events_)) {
  }
  for (const auto& picture : pictures) EXPECT_TRUE(picture->done().has_value());
  EXPECT_EQ(backend_.encoded(), 30);
}

TEST_F(EngineCacheTest, StepsGoOnWhileAPictureIsEncoded) {
  backend_.Up(&events_);
  const auto text = Submit(MakeRequest("text", {5, 6}, 12));
  EngineRequest request = MakeRequest("picture", {1, 0, 0, 2}, 2);
  request.images.push_back({.position = 1, .image = MakeImage("key", 2)});
  const auto picture = Submit(request);
  EXPECT_EQ(backend_.encoded(), 1);
  for (int step = 0; step < 4; ++step) ASSERT_TRUE(backend_.AnswerStep(&events_));
  const size_t tokens = text->tokens().size();
  EXPECT_GE(tokens, 3U) << "drawn between the begin and the end of the encoding";
  EXPECT_TRUE(picture->tokens().empty());
  ASSERT_TRUE(backend_.AnswerPicture(&events_));
  RunToEnd();
  EXPECT_EQ(picture->tokens(), ToyReference(request, 200).tokens);
}

// Where stage 0 encodes, with passes of six tiles.
class EnginePassTest : public EngineCacheTest {
 protected:
  EnginePassTest() : EngineCacheTest(/*pass_tiles=*/6) {}

  static EngineRequest WithPicture(const std::string& key, int64_t tiles) {
    EngineRequest request = MakeRequest(key, {0, 0, 0, 0, 2}, 3);
    auto image = std::make_shared<PreparedImage>(*MakeImage(key, 4));
    image->tile_count = tiles;
    request.images.push_back({.position = 0, .image = image});
    return request;
  }
};

TEST_F(EnginePassTest, WhatWaitsIsAskedForTogetherAndStepsRunBetweenPasses) {
  backend_.Up(&events_);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const char* key : {"a", "b", "c", "d", "e"}) sinks.push_back(Submit(WithPicture(key, 2)));
  const EngineRequest text = MakeRequest("text", {5, 6}, 8);
  const auto sink = Submit(text);
  EXPECT_THAT(backend_.asked_together(), ElementsAre(ElementsAre("a"))) << "the others came later";
  RunToEnd();
  EXPECT_EQ(sink->tokens(), ToyReference(text, 200).tokens) << "between the passes";
  ASSERT_TRUE(backend_.AnswerPicture(&events_));
  EXPECT_THAT(backend_.asked_together(), ElementsAre(ElementsAre("a"), ElementsAre("b", "c", "d")));
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(backend_.AnswerPicture(&events_));
  EXPECT_EQ(backend_.asked_together().size(), 2U) << "no next pass is queued before the steps";
  while (backend_.AnswerPicture(&events_) || backend_.AnswerStep(&events_)) {
  }
  EXPECT_THAT(backend_.asked_together().back(), ElementsAre("e"));
  for (const auto& done : sinks) EXPECT_EQ(done->tokens().size(), 3U);
}

TEST_F(EnginePassTest, ACancelledPictureDropsOutOfThePass) {
  backend_.Up(&events_);
  for (const char* key : {"a", "b", "c", "d"}) Submit(WithPicture(key, 2));
  core_.Cancel("c");
  core_.Pump();
  ASSERT_TRUE(backend_.AnswerPicture(&events_));
  EXPECT_THAT(backend_.asked_together(), ElementsAre(ElementsAre("a"), ElementsAre("b", "d")));
  while (backend_.AnswerPicture(&events_) || backend_.AnswerStep(&events_)) {
  }
  EXPECT_EQ(backend_.encoded(), 3);
}

// At a vision rank it waits, and may have begun.
TEST_F(EngineCacheTest, ACancelledPictureIsWithdrawnAndMayBeAskedForAgain) {
  backend_.Up(&events_);
  const auto request = [](const std::string& id, const std::string& key) {
    EngineRequest r = MakeRequest(id, {0, 0, 2}, 3);
    r.images.push_back({.position = 0, .image = MakeImage(key, 2)});
    return r;
  };
  for (const char* key : {"a", "b", "c"}) Submit(request(key, key));
  for (const char* id : {"a", "b"}) core_.Cancel(id);
  core_.Pump();
  const EngineRequest again = request("again", "b");
  const auto sink = Submit(again);
  EXPECT_EQ(backend_.encoded(), 3);
  ASSERT_TRUE(backend_.AnswerPicture(&events_));  // a: it had begun, and is kept
  EXPECT_EQ(core_.Stats().features_kept, 1);
  ASSERT_TRUE(backend_.AnswerPicture(&events_));  // b: it had not
  EXPECT_FALSE(sink->done().has_value()) << "the request that came since is not told of a failure";
  EXPECT_EQ(backend_.encoded(), 4) << "b again";
  while (backend_.AnswerPicture(&events_) || backend_.AnswerStep(&events_)) {
  }
  EXPECT_EQ(sink->tokens(), ToyReference(again, 200).tokens);
  EXPECT_EQ(core_.Stats().features_kept, 3);
}

}  // namespace
}  // namespace fulger
