#include "coordinator/text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::HasSubstr;

struct Ended {
  std::string text;
  std::optional<size_t> stopped;
  friend bool operator==(const Ended&, const Ended&) = default;
};

// What a stream shows that is cut into chunks of `chunk` bytes.
Ended Stream(const std::vector<std::string>& stops, const std::string& text, size_t chunk,
             bool include = false) {
  absl::StatusOr<StopStringMatcher> matcher = StopStringMatcher::Create(stops, include);
  EXPECT_TRUE(matcher.ok());
  Ended ended;
  for (size_t at = 0; at < text.size(); at += chunk) {
    StopStringMatcher::Output out = matcher->Push(std::string_view(text).substr(at, chunk));
    ended.text += out.text;
    if (out.stopped.has_value()) {
      EXPECT_TRUE(matcher->Push("more").text.empty());
      ended.stopped = out.stopped;
      return ended;
    }
  }
  ended.text += matcher->Flush();
  return ended;
}

// The rule, spelled out: the first byte at which some stop string is complete; the longest of those.
Ended Expected(const std::vector<std::string>& stops, const std::string& text, bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> best;
    for (size_t i = 0; i < stops.size(); ++i) {
      const bool ends = text.substr(0, end).ends_with(stops[i]);
      if (ends && (!best.has_value() || stops[i].size() > stops[*best].size())) best = i;
    }
    if (best.has_value()) return {text.substr(0, include ? end : end - stops[*best].size()), best};
  }
  return {text, std::nullopt};
}

TEST(StopStrings, AcrossChunkEdges) {
  for (size_t chunk = 1; chunk < 30; ++chunk) {
    EXPECT_EQ(Stream({"STOP"}, "go on SSTOSTOP and on", chunk), (Ended{"go on SSTO", 0}));
    EXPECT_EQ(Stream({"STOP"}, "go on SSTOSTOP and on", chunk, true), (Ended{"go on SSTOSTOP", 0}));
    EXPECT_EQ(Stream({"STOP"}, "never STO", chunk), (Ended{"never STO", std::nullopt}));
    EXPECT_EQ(Stream({"\n\n", "User:"}, "a\nUser:b\n\n", chunk), (Ended{"a\n", 1}));
    EXPECT_EQ(Stream({"c", "bcd"}, "abcd", chunk), (Ended{"ab", 0}));
    EXPECT_EQ(Stream({"cd", "bcd"}, "abcd", chunk), (Ended{"a", 1}));
    EXPECT_EQ(Stream({}, "anything", chunk), (Ended{"anything", std::nullopt}));
  }
}

TEST(StopStrings, HoldsBackNoMoreThanItMust) {
  ASSERT_OK_AND_ASSIGN(StopStringMatcher matcher, StopStringMatcher::Create({"<end>"}, false));
  EXPECT_EQ(matcher.Push("hello <").text, "hello ");
  EXPECT_EQ(matcher.held(), 1u);
  EXPECT_EQ(matcher.Push("en").text, "");
  EXPECT_EQ(matcher.Push("tire<e").text, "<entire");
  EXPECT_EQ(matcher.Flush(), "<e");
  EXPECT_EQ(matcher.held(), 0u);
  EXPECT_EQ(matcher.Push("nd>").text, "nd>");  // what was flushed is not remembered
}

TEST(StopStrings, RandomTextsAgreeWithTheRule) {
  std::mt19937 random(11);
  const auto word = [&](size_t most) {
    std::string text;
    for (size_t n = 1 + random() % most; n > 0; --n) text.push_back(static_cast<char>('a' + random() % 2));
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = 1 + random() % 3; n > 0; --n) stops.push_back(word(7));
    const std::string text = word(24);
    const bool include = random() % 2 == 0;
    const Ended want = Expected(stops, text, include);
    stopped += want.stopped.has_value() ? 1 : 0;
    EXPECT_EQ(Stream(stops, text, 1 + random() % 5, include), want) << text;
  }
  EXPECT_GT(stopped, 500);
  EXPECT_LT(stopped, 2900);
}

TEST(StopStrings, EmptyStringIsRefused) {
  EXPECT_THAT(StopStringMatcher::Create({"a", ""}, false).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("stop[1]: empty")));
}

}  // namespace
}  // namespace fulger
