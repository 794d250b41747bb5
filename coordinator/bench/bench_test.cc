#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "coordinator/bench/arrivals.h"
#include "coordinator/bench/books.h"
#include "coordinator/bench/mix.h"
#include "coordinator/bench/picture.h"
#include "coordinator/bench/summary.h"
#include "coordinator/image/data_url.h"
#include "coordinator/image/header.h"
#include "tests/support/status_matchers.h"

namespace fulger::bench {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Arrivals, ConstantAndBurst) {
  EXPECT_THAT(ArrivalOffsets(*ParseArrivals("constant:4"), 5, 0, 1), ElementsAre(0, 0.25, 0.5, 0.75, 1));
  EXPECT_THAT(ArrivalOffsets(*ParseArrivals("burst:2:0.5"), 5, 0, 1), ElementsAre(0, 0, 0.5, 0.5, 1));
  EXPECT_THAT(ArrivalOffsets(*ParseArrivals("constant:4"), 0, 0.5, 1), ElementsAre(0, 0.25));
}

// An exponential's mean is 1 / rate and so is its standard deviation: with 100,000 gaps, five standard
// errors.
TEST(Arrivals, PoissonGapsAreExponential) {
  constexpr double kRate = 50;
  constexpr int64_t kCount = 100000;
  const auto offsets = ArrivalOffsets(*ParseArrivals("poisson:50"), kCount, 0, 3);
  double sum = 0, squares = 0, below_mean = 0, last = 0;
  for (const double offset : offsets) {
    ASSERT_GT(offset, last);
    const double gap = (offset - last) * kRate;
    sum += gap;
    squares += gap * gap;
    below_mean += gap < 1;
    last = offset;
  }
  const double n = static_cast<double>(kCount), error = 5 / std::sqrt(n);
  EXPECT_NEAR(sum / n, 1, error);
  EXPECT_NEAR(squares / n, 2, std::sqrt(20) * error);  // the variance of X^2 is 24 - 4
  EXPECT_NEAR(below_mean / n, 1 - std::exp(-1), error / 2);
}

TEST(Arrivals, ASeedRepeatsThemAndAnotherDoesNot) {
  const ArrivalSpec spec = *ParseArrivals("poisson:3");
  EXPECT_EQ(ArrivalOffsets(spec, 20, 0, 7), ArrivalOffsets(spec, 20, 0, 7));
  EXPECT_NE(ArrivalOffsets(spec, 20, 0, 7), ArrivalOffsets(spec, 20, 0, 8));
}

TEST(Arrivals, BadOnesAreNamed) {
  for (const char* const bad : {"", "poisson", "poisson:0", "poisson:-1", "poisson:x", "burst:2", "burst:0:1",
                                "closed:0", "closed:1.5", "uniform:3", "constant:2:3"}) {
    EXPECT_FALSE(ParseArrivals(bad).ok()) << bad;
  }
  EXPECT_THAT(Message(ParseArrivals("uniform:3").status()), HasSubstr("uniform:3"));
}

json BodyOf(const std::string& mix, int64_t session, size_t turn = 0,
            const BodyOptions& options = {.model = "m"}) {
  return json::parse(
      RequestMix::Make(*ParseMix(mix), options)->Draw(session).Body(turn, {"an answer", "another"}));
}

TEST(Mix, TheSameSeedDrawsTheSameRequests) {
  EXPECT_EQ(BodyOf("random:input=40", 3), BodyOf("random:input=40", 3));
  EXPECT_NE(BodyOf("random:input=40", 3), BodyOf("random:input=40", 4));
  EXPECT_NE(BodyOf("random:input=40", 3), BodyOf("random:input=40", 3, 0, {.model = "m", .seed = 2}));
}

TEST(Mix, GroupsShareTheirPrefix) {
  const auto system = [](int64_t session) {
    return BodyOf("prefix:prefix=30,groups=2,input=5", session)["messages"][0]["content"].get<std::string>();
  };
  EXPECT_EQ(system(0), system(2));
  EXPECT_NE(system(0), system(1));
  const std::string words = system(0);
  EXPECT_EQ(std::count(words.begin(), words.end(), ' '), 29);
}

TEST(Mix, AConversationHoldsWhatWasAnswered) {
  const json body = BodyOf("turns:turns=3,input=5,output=9", 0, 2);
  ASSERT_EQ(body["messages"].size(), 5u);
  EXPECT_EQ(body["messages"][0], BodyOf("turns:turns=3,input=5,output=9", 0, 0)["messages"][0]);
  EXPECT_EQ(body["messages"][1], json({{"role", "assistant"}, {"content", "an answer"}}));
  EXPECT_EQ(body["messages"][3]["content"], "another");
  EXPECT_EQ(body["max_tokens"], 9);
}

TEST(Mix, IdsForCompletionsAndPlainFields) {
  const json body =
      BodyOf("random:input=12,output=7", 0, 0, {.api = Api::kCompletions, .model = "m", .vocabulary = 5});
  ASSERT_EQ(body["prompt"].size(), 12u);
  for (const json& id : body["prompt"]) EXPECT_LT(id.get<int>(), 5);
  EXPECT_TRUE(body["ignore_eos"].get<bool>());
  const json plain = BodyOf("random", 0, 0, {.model = "m", .plain = true});
  EXPECT_FALSE(plain.contains("ignore_eos"));
  EXPECT_FALSE(plain["stream_options"].contains("continuous_usage_stats"));
}

TEST(Mix, PicturesHaveTheSizeAskedFor) {
  const json body = BodyOf("pictures:pictures=2,width=70,height=30,distinct=2", 0);
  const json& content = body["messages"][0]["content"];
  ASSERT_EQ(content.size(), 3u);
  const std::string url = content[0]["image_url"]["url"];
  const auto bytes = DecodeBase64(url.substr(url.find(',') + 1));
  ASSERT_OK(bytes.status());
  const auto header = ReadPngHeader(*bytes);
  ASSERT_OK(header.status());
  EXPECT_EQ(header->stored.width, 70);
  EXPECT_EQ(header->stored.height, 30);
}

TEST(Mix, BadOnesAreNamed) {
  for (const char* const bad : {"random:prefix=3", "random:input", "random:input=0", "random:input=-4",
                                "file:", "files:x", "pictures:width=99999999", ""}) {
    EXPECT_FALSE(ParseMix(bad).ok()) << bad;
  }
  EXPECT_THAT(Message(ParseMix("random:prefix=3").status()), HasSubstr("random has input, output"));
}

// numpy.percentile([1, 2, 4, 8, 16], [0, 25, 50, 90, 99, 100])
TEST(Summary, PercentilesAsNumpyHasThem) {
  const std::vector<double> values = {1, 2, 4, 8, 16};
  EXPECT_DOUBLE_EQ(Percentile(values, 0), 1);
  EXPECT_DOUBLE_EQ(Percentile(values, 25), 2);
  EXPECT_DOUBLE_EQ(Percentile(values, 50), 4);
  EXPECT_DOUBLE_EQ(Percentile(values, 90), 12.8);
  EXPECT_DOUBLE_EQ(Percentile(values, 99), 15.68);
  EXPECT_DOUBLE_EQ(Percentile(values, 100), 16);
}

// Of 400 normal-like values the interval of the mean is about 1.96 standard errors to each side.
TEST(Summary, IntervalsOfTheMean) {
  Samples samples;
  for (int i = 0; i < 400; ++i) samples.push_back({100 + 10 * std::sqrt(2) * std::sin(i * 2.399963)});
  const Metric metric = Summarise(samples);
  EXPECT_EQ(metric.requests, 400);
  EXPECT_NEAR(metric.mean.value, 100, 0.1);
  EXPECT_NEAR(metric.mean.high - metric.mean.low, 2 * 1.96 * 10 / 20, 0.3);
}

// Ten requests with a thousand equal samples each are ten independent ones, not ten thousand.
TEST(Summary, SamplesOfARequestAreDrawnTogether) {
  Samples samples;
  for (int i = 0; i < 10; ++i) samples.emplace_back(1000, i);
  const Metric metric = Summarise(samples);
  EXPECT_GT(metric.mean.high - metric.mean.low, 2.0);
}

RequestRecord Good() {
  return {.due = 1,
          .sent = 1.001,
          .end = 1.4,
          .tokens = {1.101, 1.201, 1.301, 1.4},
          .outcome = Outcome::kSucceeded,
          .finish_reason = "length",
          .asked_tokens = 4,
          .has_usage = true,
          .prompt_tokens = 10,
          .completion_tokens = 4,
          .total_tokens = 14,
          .running_tokens = 4,
          .running = true};
}
LoadResult Result(std::vector<RequestRecord> records) {
  LoadResult result{.records = std::move(records)};
  result.sent = static_cast<int64_t>(result.records.size());
  for (const auto& r : result.records) result.token_events += static_cast<int64_t>(r.tokens.size());
  return result;
}

TEST(Summary, TimesAndGoals) {
  const auto samples = SamplesOf({Good()});
  EXPECT_NEAR(samples.at("ttft")[0][0], 100, 1e-6);
  EXPECT_NEAR(samples.at("e2e")[0][0], 399, 1e-6);
  EXPECT_NEAR(samples.at("delay")[0][0], 1, 1e-6);
  EXPECT_NEAR(samples.at("tpot")[0][0], 299.0 / 3, 1e-6);
  EXPECT_EQ(samples.at("itl")[0].size(), 3u);
  EXPECT_EQ(GoodRequests({Good()}, *ParseGoal("ttft:101ms,e2e:0.4s")), 1);
  EXPECT_EQ(GoodRequests({Good()}, *ParseGoal("ttft:99ms")), 0);
  EXPECT_EQ(GoodRequests({Good()}, *ParseGoal("itl:99.5ms")), 0);
  for (const char* const bad : {"", "ttft", "ttft:5", "speed:5ms", "ttft:-1ms", "ttft:5ms,"}) {
    EXPECT_FALSE(ParseGoal(bad).ok()) << bad;
  }
}

TEST(Books, AGoodRunBalances) { EXPECT_THAT(CheckBooks(Result({Good(), Good()}), {}), ElementsAre()); }

struct Wrong {
  const char* words;
  void (*change)(LoadResult*);
};
class BooksWrong : public ::testing::TestWithParam<Wrong> {};
TEST_P(BooksWrong, IsTold) {
  LoadResult result = Result({Good(), Good()});
  GetParam().change(&result);
  EXPECT_THAT(CheckBooks(result, {}), ElementsAre(HasSubstr(GetParam().words)));
}
INSTANTIATE_TEST_SUITE_P(
    Lines, BooksWrong,
    ::testing::Values(Wrong{"sent = succeeded", [](LoadResult* r) { ++r->sent; }},
                      Wrong{"failures within",
                            [](LoadResult* r) {
                              r->records[1].outcome = Outcome::kFailed;
                              r->records[1].error = "status 500";
                            }},
                      Wrong{"events counted", [](LoadResult* r) { --r->token_events; }},
                      Wrong{"has usage", [](LoadResult* r) { r->records[0].has_usage = false; }},
                      Wrong{"total_tokens", [](LoadResult* r) { ++r->records[0].total_tokens; }},
                      Wrong{"request 1: usage says 4 tokens, 4 events brought one, running usage ended at 3",
                            [](LoadResult* r) { r->records[1].running_tokens = 3; }},
                      Wrong{"one token per event", [](LoadResult* r) { r->records[0].lost_tokens = 1; }},
                      Wrong{"max_tokens", [](LoadResult* r) { r->records[0].asked_tokens = 5; }}));

TEST(Books, NothingSucceeded) {
  EXPECT_THAT(CheckBooks(Result({}), {}), ElementsAre(HasSubstr("none of 0")));
}

TEST(Books, AllowedFailuresAndServersWithManyTokensPerEvent) {
  LoadResult result = Result({Good(), Good()});
  result.records[1].outcome = Outcome::kFailed;
  EXPECT_THAT(CheckBooks(result, {.allowed_failures = 0.5}), ElementsAre());
  result = Result({Good()});
  result.records[0].tokens.pop_back();
  --result.token_events;
  result.records[0].lost_tokens = 1;
  EXPECT_THAT(CheckBooks(result, {.one_token_per_event = false}), ElementsAre());
}

std::string Event(int tokens) {
  return R"({"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}],"usage":{"prompt_tokens":3,)"
         R"("completion_tokens":)" +
         std::to_string(tokens) + R"(,"total_tokens":9}})";
}

TEST(Answer, RunningUsageShowsWhatWasLost) {
  RequestRecord record;
  AnswerReader reader(&record);
  EXPECT_TRUE(reader.OnEvent(Event(1), 0.5));
  EXPECT_TRUE(reader.OnEvent(Event(3), 0.75));
  EXPECT_TRUE(reader.OnEvent(R"({"choices":[{"delta":{},"finish_reason":"length"}]})", 0.8));
  EXPECT_TRUE(
      reader.OnEvent(R"({"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6,)"
                     R"("prompt_tokens_details":{"cached_tokens":2}}})",
                     0.9));
  EXPECT_FALSE(reader.OnEvent("[DONE]", 1));
  EXPECT_THAT(record.tokens, ElementsAre(0.5, 0.75));
  EXPECT_EQ(record.lost_tokens, 1);
  EXPECT_EQ(record.completion_tokens, 3);
  EXPECT_EQ(record.cached_tokens, 2);
  EXPECT_EQ(record.finish_reason, "length");
  EXPECT_EQ(reader.text(), "xx");
  EXPECT_TRUE(reader.done());
}

TEST(Answer, StrangeEventsAreErrors) {
  for (const char* const data :
       {"no json", "[1]", R"({"error":{"message":"out of memory"}})", R"({"error":"x"})"}) {
    RequestRecord record;
    AnswerReader(&record).OnEvent(data, 0);
    EXPECT_NE(record.error, "") << data;
  }
  for (const char* const data :
       {"{}", R"({"choices":[3]})", R"({"choices":3,"usage":4})",
        R"({"choices":[{"delta":{"content":5}}],"usage":{"completion_tokens":"x"}})"}) {
    RequestRecord record;
    AnswerReader(&record).OnEvent(data, 0);  // nothing but no crash
    EXPECT_EQ(record.tokens.size(), 0u) << data;
  }
}

}  // namespace
}  // namespace fulger::bench
