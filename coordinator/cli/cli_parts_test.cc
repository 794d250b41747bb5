// The command line's parts that need no engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/cli/address.h"
#include "coordinator/cli/config_file.h"
#include "coordinator/cli/conversation.h"
#include "coordinator/cli/http_client.h"
#include "coordinator/cli/memory_budget.h"
#include "coordinator/cli/run_program.h"
#include "coordinator/cli/walltime.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_file.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ParseAddress, TakesNamesAndBothKindsOfNumbers) {
  ASSERT_OK_AND_ASSIGN(SocketAddress address, ParseAddress("--listen", "0.0.0.0:8000"));
  EXPECT_EQ(address.host, "0.0.0.0");
  EXPECT_EQ(address.port, 8000);
  ASSERT_OK_AND_ASSIGN(address, ParseAddress("--listen", "[::1]:0"));
  EXPECT_EQ(address.host, "::1");
  EXPECT_EQ(ToString(address), "[::1]:0");
}

TEST(ParseAddress, NamesTheFlag) {
  for (const char* bad : {"", "8000", "localhost", "localhost:", ":8000", "h:99999", "h:80x", "h:-1"}) {
    EXPECT_THAT(ParseAddress("--grpc", bad).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--grpc")))
        << bad;
  }
  EXPECT_THAT(ParseAddress("--listen", "::1:8000").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("brackets")));
}

TEST(ConfigFile, FillsInWhatTheCommandLineDoesNotSay) {
  const std::string path = WriteTestFile("a.toml",
                                         "# a comment\nmodel = \"/models/vl 01\"\ntp = 4\npp=2\n"
                                         "stage-layers = [3, 5]\nwait-for-workers = true\n");
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> arguments,
                       ExpandConfigFile({"serve", "--tp", "8", "--config", path}));
  EXPECT_THAT(arguments, ElementsAre("serve", "--tp", "8", "--model=/models/vl 01", "--pp=2",
                                     "--stage-layers=3,5", "--wait-for-workers=true"));
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> same, ExpandConfigFile({"serve", "--tp=8", "--pp=1"}));
  EXPECT_THAT(same, ElementsAre("serve", "--tp=8", "--pp=1"));
}

TEST(ConfigFile, RefusesWhatItDoesNotUnderstand) {
  EXPECT_THAT(ExpandConfigFile({"serve", "--config"}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("needs a file")));
  EXPECT_THAT(ExpandConfigFile({"serve", "--config=/nowhere.toml"}).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere.toml")));
  const std::string sections = WriteTestFile("b.toml", "[serve]\ntp = 4\n");
  EXPECT_THAT(ExpandConfigFile({"serve", "--config", sections}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[serve]")));
}

TEST(ParseUrl, TakesWhatPeopleType) {
  ASSERT_OK_AND_ASSIGN(Url url, ParseUrl("http://localhost:8000/"));
  EXPECT_EQ(url.host, "localhost");
  EXPECT_EQ(url.port, "8000");
  EXPECT_EQ(url.path, "");
  ASSERT_OK_AND_ASSIGN(url, ParseUrl("h2/fulger/"));
  EXPECT_EQ(url.host, "h2");
  EXPECT_EQ(url.port, "80");
  EXPECT_EQ(url.path, "/fulger");
  ASSERT_OK_AND_ASSIGN(url, ParseUrl("http://[::1]:9"));
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.port, "9");
  EXPECT_FALSE(url.tls);
  ASSERT_OK_AND_ASSIGN(url, ParseUrl("https://h/v1"));
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(url.port, "443");
  ASSERT_OK_AND_ASSIGN(url, ParseUrl("https://[::1]:9"));
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.port, "9");
  EXPECT_THAT(ParseUrl("http://:80").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST")));
}

TEST(EventParser, PutsEventsTogetherFromAnyPieces) {
  const std::string stream = "data: one\n\n: keep-alive\n\ndata:two\r\n\r\ndata: [DONE]\n\ndata: never\n\n";
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    EventParser parser;
    std::vector<std::string> events;
    const auto on_data = [&](std::string_view data) {
      events.emplace_back(data);
      return data != "[DONE]";
    };
    for (size_t at = 0; at < stream.size(); at += piece) {
      if (!parser.Feed(std::string_view(stream).substr(at, piece), on_data)) break;
    }
    ASSERT_THAT(events, ElementsAre("one", "two", "[DONE]")) << "pieces of " << piece;
  }
}

TEST(Conversation, IsTheBodyOfAChatRequest) {
  Conversation conversation;
  conversation.AddUser("What is \"this\"?", {"data:image/png;base64,AAAA"});
  conversation.AddAssistant("A\ncat.");
  conversation.AddUser("bad \xff byte", {});
  const auto json = nlohmann::json::parse(conversation.RequestJson("m", 7, 0.5, 9));
  EXPECT_EQ(json["model"], "m");
  EXPECT_EQ(json["stream"], true);
  EXPECT_EQ(json["max_tokens"], 7);
  EXPECT_EQ(json["temperature"], 0.5);
  EXPECT_EQ(json["seed"], 9);
  ASSERT_EQ(json["messages"].size(), 3U);
  EXPECT_EQ(json["messages"][0]["content"][0]["image_url"]["url"], "data:image/png;base64,AAAA");
  EXPECT_EQ(json["messages"][0]["content"][1]["text"], "What is \"this\"?");
  EXPECT_EQ(json["messages"][1]["role"], "assistant");
  conversation.DropLast();
  const auto shorter = nlohmann::json::parse(conversation.RequestJson("m", 0, std::nullopt, std::nullopt));
  EXPECT_EQ(shorter["messages"].size(), 2U);
  EXPECT_FALSE(shorter.contains("max_tokens"));
  EXPECT_FALSE(shorter.contains("temperature"));
}

TEST(Conversation, ReadsEventsAndErrors) {
  ChatEvent event = ParseChatEvent(R"({"choices":[{"delta":{"content":"hi"},"finish_reason":null}]})");
  EXPECT_EQ(event.text, "hi");
  EXPECT_EQ(event.finish_reason, "");
  event = ParseChatEvent(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})");
  EXPECT_EQ(event.finish_reason, "stop");
  EXPECT_EQ(ParseChatEvent(R"({"choices":[]})").text, "");
  EXPECT_EQ(ParseChatEvent(R"({"error":{"message":"no"}})").error, "no");
  EXPECT_THAT(ParseChatEvent("{").error, HasSubstr("no JSON"));
  EXPECT_EQ(ErrorText("plain"), "plain");
}

TEST(PictureDataUrl, TellsTheTypeByTheBytes) {
  ASSERT_OK_AND_ASSIGN(const std::string url, PictureDataUrl(WriteTestFile("p", "\xFF\xD8\xFF-abc")));
  EXPECT_EQ(url, "data:image/jpeg;base64,/9j/LWFiYw==");
  ASSERT_OK_AND_ASSIGN(const std::string webp, PictureDataUrl(WriteTestFile("w", "RIFF1234WEBPx")));
  EXPECT_THAT(webp, StartsWith("data:image/webp;base64,"));
  EXPECT_THAT(PictureDataUrl(WriteTestFile("t", "text")).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no JPEG")));
  EXPECT_THAT(PictureDataUrl("/nowhere.jpg").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere.jpg")));
}

// The released model on one rank: 10 softmax layers of 8 KV heads of 128, two float32 values each.
constexpr int64_t kKvPerToken = 10 * 8 * 128 * 2 * 4;

class Budget : public testing::Test {
 protected:
  Budget() : config_(ReleasedVl01Config()), table_(TensorTable(config_)) {
    Layout layout;
    layout.tp = 8;
    plan_ = MakePlan(config_, layout).value();
  }
  absl::StatusOr<MemoryBudget> Make(const MemoryWishes& wishes) {
    return PlanMemoryBudget(config_, plan_, table_, wishes);
  }
  ModelConfig config_;
  std::vector<TensorSpec> table_;
  Plan plan_;
};

TEST_F(Budget, TwoContextsWhereMemoryIsAmpleOrUnknown) {
  ASSERT_OK_AND_ASSIGN(MemoryBudget budget, Make({}));
  EXPECT_EQ(budget.max_context, 131072);
  EXPECT_EQ(budget.cache_tokens, 262144);
  EXPECT_THAT(budget.arithmetic, AllOf(HasSubstr(HumanBytes(kKvPerToken) + " per token"),
                                       HasSubstr("config.json says 8192, not enforced")));
  ASSERT_OK_AND_ASSIGN(budget, Make({.max_context = 1000, .available = int64_t{4} << 40}));
  EXPECT_EQ(budget.max_context, 1000);
  EXPECT_EQ(budget.cache_tokens, 2000);
  ASSERT_OK_AND_ASSIGN(budget, Make({.cache_tokens = 5000, .block_size = 32}));
  EXPECT_EQ(budget.cache_tokens, 5024) << "whole blocks";
  EXPECT_EQ(budget.max_context, 5024);
}

TEST_F(Budget, ShrinksToTheMemory) {
  // 1 TiB: weights of 850 GiB and states leave less than a quarter.
  ASSERT_OK_AND_ASSIGN(const MemoryBudget budget, Make({.available = int64_t{900} << 30}));
  EXPECT_LT(budget.cache_tokens * kKvPerToken, int64_t{60} << 30);
  ASSERT_OK_AND_ASSIGN(const MemoryBudget small,
                       Make({.max_sequences = 1, .available = (int64_t{860} << 30)}));
  EXPECT_LT(small.cache_tokens, 131072);
  EXPECT_GT(small.cache_tokens, 0);
  EXPECT_EQ(small.max_context, small.cache_tokens);
  EXPECT_EQ(small.cache_tokens % 16, 0);
}

TEST_F(Budget, SaysWhyItCannotBe) {
  EXPECT_THAT(Make({.max_context = 4096, .available = int64_t{64} << 30}).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("64.00 GiB free"), HasSubstr("4096 are needed"))));
  EXPECT_THAT(Make({.max_context = 4096, .cache_tokens = 4000}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--cache-tokens 4000"), HasSubstr("--max-context 4096"))));
}

TEST_F(Budget, DescribesEveryRank) {
  Layout layout;
  layout.pp = 2;
  layout.tp = 2;
  layout.ep = 2;
  layout.vision = 1;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, layout));
  const std::vector<std::string> lines = DescribePlan(plan, table_, DType::kBF16);
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_THAT(lines[3],
              AllOf(StartsWith("rank 3: stage 1, layers 40..79, heads 32..63, KV heads 4..7, experts "
                               "16..31, vocabulary 100032..200063; "),
                    HasSubstr("GiB of weights")));
  EXPECT_THAT(lines[4], StartsWith("rank 4: vision tower; "));
}

TEST(Walltime, FlagVariableOrNone) {
  const auto none = [](const char*) -> const char* { return nullptr; };
  const auto slurm = [](const char* name) -> const char* {
    return std::string_view(name) == "SLURM_JOB_END_TIME" ? "1700000000" : nullptr;
  };
  const auto at = [](int64_t seconds) { return WallClock::time_point(std::chrono::seconds(seconds)); };
  EXPECT_EQ(*JobEnd("", none), std::nullopt);
  EXPECT_EQ(*JobEnd("", slurm), at(1700000000));
  EXPECT_EQ(*JobEnd("1800000000", slurm), at(1800000000));
  EXPECT_FALSE(JobEnd("tomorrow", none).ok());
  EXPECT_FALSE(JobEnd("0", none).ok());
  using std::chrono::seconds;
  EXPECT_EQ(DrainStart(at(1000), seconds(60), seconds(0)), at(925));
  EXPECT_EQ(DrainStart(at(1000), seconds(60), seconds(100)), at(825));
  EXPECT_EQ(SaveEnd(at(1000)), at(985));
  EXPECT_EQ(SaveTime(0, 1e9), seconds(0));
  EXPECT_EQ(SaveTime(10e9, 1e9), seconds(22)) << "twice as long as was measured";
  EXPECT_GT(SaveTime(1, 0), seconds(1000));
}

TEST(CacheQuestion, AsksForOneTokenAndAnExplanation) {
  ASSERT_OK_AND_ASSIGN(CacheQuestion question, MakeCacheQuestion("", "Hi"));
  EXPECT_EQ(question.path, "/v1/chat/completions");
  EXPECT_EQ(nlohmann::json::parse(question.body),
            nlohmann::json::parse(R"({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1,
                                      "explain_cache": true})"));
  ASSERT_OK_AND_ASSIGN(
      question,
      MakeCacheQuestion(R"({"prompt": "a", "stream": true, "n": 3, "max_tokens": 90, "seed": 1})", ""));
  EXPECT_EQ(question.path, "/v1/completions");
  EXPECT_EQ(nlohmann::json::parse(question.body),
            nlohmann::json::parse(R"({"prompt": "a", "seed": 1, "max_tokens": 1, "explain_cache": true})"));
  for (const char* bad : {"{", "[1]", "3"}) {
    EXPECT_THAT(MakeCacheQuestion(bad, "").status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no JSON object")))
        << bad;
  }
  EXPECT_THAT(MakeCacheQuestion("", "").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--request")));
}

TEST(CacheQuestion, TheAnswerIsOneSentence) {
  ASSERT_OK_AND_ASSIGN(const std::string text,
                       CacheAnswerText(R"({"usage": {"prompt_tokens": 120, "prompt_tokens_details":
                                           {"cached_tokens": 96, "cache": "because"}}})"));
  EXPECT_EQ(text, "96 of 120 prompt tokens were cached: because");
  for (const char* bad :
       {"{", "{}", R"({"usage": {"prompt_tokens": 1}})",
        R"({"usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0}}})"}) {
    EXPECT_THAT(CacheAnswerText(bad).status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("the server")))
        << bad;
  }
}

TEST(RunProgram, GivesOutputAndExitCode) {
  ASSERT_OK_AND_ASSIGN(const ProgramOutput said, RunProgram({"sh", "-c", "printf 'a b'; exit 3"}));
  EXPECT_EQ(said.out, "a b");
  EXPECT_EQ(said.exit_code, 3);
  ASSERT_OK_AND_ASSIGN(const ProgramOutput killed, RunProgram({"sh", "-c", "kill -9 $$"}));
  EXPECT_EQ(killed.exit_code, 137);
  EXPECT_EQ(RunProgram({"/nowhere/program"}).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace fulger
