#include "coordinator/bench/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/bench/result.h"
#include "tests/support/status_matchers.h"

namespace fulger::bench {
namespace {

using nlohmann::json;
using ::testing::Contains;
using ::testing::HasSubstr;

// `count` requests of four tokens, `gap` seconds apart with a little that varies.
json Measured(double gap, const std::string& mix = "random", int count = 40) {
  LoadResult load;
  for (int i = 0; i < count; ++i) {
    const double at = i, step = gap * (1 + 0.1 * ((i * 7) % 11 - 5) / 5);
    RequestRecord r{.due = at, .sent = at, .end = at + 4 * step, .outcome = Outcome::kSucceeded};
    for (int t = 1; t <= 4; ++t) r.tokens.push_back(at + t * step);
    r.completion_tokens = 4;
    load.records.push_back(std::move(r));
  }
  load.sent = count;
  load.seconds = count;
  const RunSetup setup{.command = {"fulger", "bench"}, .url = "http://<host>", .mix = mix};
  return ResultJson(setup, load, {{"ttft", 1000.0}}, {});
}

TEST(Compare, ARunBesideItselfIsNoRegression) {
  const auto same = Compare(Measured(0.1), Measured(0.1), 0.05);
  ASSERT_OK(same.status());
  EXPECT_FALSE(same->regressed()) << ComparisonText(*same);
  EXPECT_TRUE(same->differences.empty());
  for (const auto& row : same->rows) EXPECT_DOUBLE_EQ(row.ratio.value, 1) << row.name;
}

TEST(Compare, SlowerIsARegressionAndFasterIsNone) {
  const auto slower = Compare(Measured(0.1), Measured(0.13), 0.05);
  ASSERT_OK(slower.status());
  EXPECT_TRUE(slower->regressed());
  for (const auto& row : slower->rows) {
    if (row.name == "ttft mean, ms") {
      EXPECT_NEAR(row.ratio.value, 1.3, 1e-9);
      EXPECT_LT(row.ratio.low, 1.3);
      EXPECT_GT(row.ratio.high, 1.3);
    }
  }
  EXPECT_FALSE(Compare(Measured(0.13), Measured(0.1), 0.05)->regressed());
  EXPECT_FALSE(Compare(Measured(0.1), Measured(0.13), 0.5)->regressed());
}

TEST(Compare, SaysWhatDiffersAndWhatDoesNotBalance) {
  json b = Measured(0.1, "turns");
  b["books"]["wrong"].push_back("usage = what was streamed");
  const auto compared = Compare(Measured(0.1), b, 0.05);
  ASSERT_OK(compared.status());
  EXPECT_THAT(compared->differences, Contains(HasSubstr(R"(mix: A has "random", B has "turns")")));
  EXPECT_THAT(compared->warnings, Contains(HasSubstr("B: the books do not balance")));
}

TEST(Compare, RefusesOtherFiles) {
  EXPECT_FALSE(Compare(json::object(), Measured(0.1), 0.05).ok());
  json broken = Measured(0.1);
  broken["requests"][3].erase("sent");
  EXPECT_THAT(Message(Compare(Measured(0.1), broken, 0.05).status()), HasSubstr("B: requests"));
}

TEST(Result, ThePageStandsAlone) {
  const std::string html = ResultHtml(Measured(0.1));
  EXPECT_THAT(html, HasSubstr("http://&lt;host&gt;"));
  for (const char* const outside : {"src=", "href=", "url(", "@import", "<script"}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
  EXPECT_EQ(html.find("nan"), std::string::npos);
  EXPECT_EQ(html.find("inf,"), std::string::npos);
  ResultHtml(ResultJson({}, {}, {}, {"nothing"}));  // of no request at all
}

}  // namespace
}  // namespace fulger::bench
