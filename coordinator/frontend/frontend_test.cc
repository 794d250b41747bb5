// The frontend on a real tokenizer and real pictures; the tests play the engine. Expected ids are Hugging
// Face's (tests/golden/text), token counts of pictures are worked out by hand.
#include "coordinator/frontend/frontend.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "coordinator/frontend/field_error.h"
#include "coordinator/saved/saved_requests.h"
#include "monitoring/metrics/server_metrics.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kEnd = 4258, kImage = 4261;  // of tests/golden/text/tokenizer_split
constexpr int64_t kContext = 4096;

class FakeEngine final : public Engine {
 public:
  absl::Status Submit(EngineRequest r, std::shared_ptr<ResponseSink> s) override {
    if (!refuse.ok()) return refuse;
    request = std::move(r);
    sink = std::move(s);
    return absl::OkStatus();
  }
  bool Cancel(const std::string& id) override {
    if (id != request.id) return false;
    cancelled.set_value();
    return true;
  }
  EngineStats Stats() const override { return {}; }
  void Drain(Duration) override {}
  bool Settle(Duration) override { return true; }
  std::vector<v1::SavedRequest> Suspend(const std::string&, Duration) override { return {}; }
  BackendEvents* Events(size_t) override { return nullptr; }

  ResponseSink::Next Token(int32_t id) {
    const std::pair<int32_t, float> top[] = {{id, -0.5F}, {1, -2}};
    return sink->OnToken({.id = id, .logprob = -0.5F, .top = top});
  }
  void Done(FinishReason reason, int64_t tokens, int32_t stop_id = -1) {
    Completion c;
    c.reason = reason;
    c.stop_id = stop_id;
    c.completion_tokens = tokens;
    c.prompt_tokens = 3;
    sink->OnDone(c);
  }

  absl::Status refuse;
  EngineRequest request;
  std::shared_ptr<ResponseSink> sink;
  std::promise<void> cancelled;
};

std::string Read(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path);
  EXPECT_OK(text.status());
  return text.ok() ? *text : "";
}

class FrontendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = testing::TempDir() + "fulger_frontend_" +
           testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(dir_);
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      Write(name, Read(std::string("tests/golden/text/tokenizer_split/") + name));
    }
    config_ = json::parse(Read("tests/golden/model/data/configs/g6.json"));
    config_["image_token_index"] = kImage;
    config_["text_config"]["vocab_size"] = 4300;
    options_.model_dir = dir_;
    options_.model_name = "tiny";
    options_.max_context = kContext;
    options_.clock = &clock_;
    options_.metrics = &metrics_;
    clock_.Advance(std::chrono::hours(1));
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void Write(const std::string& name, const std::string& text) { std::ofstream(dir_ + "/" + name) << text; }
  absl::Status Make() {
    Write("config.json", config_.dump());
    auto made = MakeFrontend(options_, &engine_);
    if (made.ok()) frontend_ = *std::move(made);
    return made.status();
  }
  // Generates, and keeps what comes out.
  absl::Status Generate(GenerateInput input) {
    input.id = "r1";
    return frontend_->Generate(std::move(input),
                               {.on_prompt = [this](const PromptInfo& info) { info_ = info; },
                                .on_delta =
                                    [this](TextDelta&& delta) {
                                      text_ += delta.text;
                                      deltas_.push_back(std::move(delta));
                                      return text_.find(enough_) == std::string::npos;
                                    },
                                .on_done =
                                    [this](const TextResult& result) {
                                      result_ = result;
                                      ++done_;
                                    }});
  }
  GenerateInput Text(const std::string& text) {
    GenerateInput input;
    input.text = text;
    input.sampling.set_temperature(1);
    return input;
  }
  std::vector<int32_t> Ids(const std::string& text) {
    auto ids = frontend_->Tokenize(Text(text));
    EXPECT_OK(ids.status());
    return ids.ok() ? *ids : std::vector<int32_t>{};
  }

  std::string dir_;
  json config_;
  ManualClock clock_;
  MetricRegistry registry_;
  ServerMetrics metrics_{&registry_, {.version = "1"}};
  FakeEngine engine_;  // its sink uses the clock and the metrics to the end
  FrontendOptions options_;
  std::unique_ptr<Frontend> frontend_;
  PromptInfo info_;
  std::string text_;
  std::string enough_ = "no text has this: \xff";  // with it, the handler wants no more
  std::vector<TextDelta> deltas_;
  TextResult result_;
  int done_ = 0;
};

PromptMessage TextMessage(const std::string& role, const std::string& text) {
  PromptMessage message;
  message.role = role;
  message.parts.push_back({.kind = PromptPart::Kind::kText, .text = text, .image = {}});
  return message;
}

// rgb.png: 29 high, 37 wide, so the canvas is 336x336 (24x24 patches); of its rows 29*24/37 = 18 are kept:
// 576 + 18 * (24 + 1) tokens.
constexpr int64_t kPictureTokens = 1026;
PromptPart Picture(const std::string& name = "rgb.png") {
  return {.kind = PromptPart::Kind::kImage, .text = {}, .image = Read("tests/golden/image/files/" + name)};
}

TEST_F(FrontendTest, ConversationsHaveTheReferencesIds) {
  const json cases = json::parse(Read("tests/golden/text/chat.json"));
  int compared = 0;
  for (const char* form : {"vl01", "text01"}) {
    options_.chat_template = form;
    ASSERT_OK(Make());
    for (const json& c : cases) {
      const std::string rendered = c["rendered"];
      if (c["form"] != form || c["messages"].empty() || rendered.find("<image>") != std::string::npos)
        continue;
      if (c["name"] == "unknown_role") continue;  // refused here, dropped there
      GenerateInput input;
      bool plain = true;
      for (const json& m : c["messages"]) {
        PromptMessage message;
        message.role = m["role"];
        message.name = m.value("name", "");
        plain = plain && !m.contains("tool_calls") && !m.contains("tool_call_id") && m.contains("content") &&
                m["content"].is_array();
        if (!plain) break;
        for (const json& part : m["content"]) {
          message.parts.push_back({.kind = PromptPart::Kind::kText, .text = part["text"], .image = {}});
        }
        input.messages.push_back(std::move(message));
      }
      if (!plain) continue;
      for (const json& tool : c["tools"])
        input.tools.push_back(tool.is_string() ? tool.get<std::string>() : tool.dump());
      if (!input.tools.empty()) continue;  // their JSON's spelling has tests of its own
      input.add_generation_prompt = c["add_generation_prompt"];
      input.continue_final_message = c["continue_final_message"];
      ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> ids, frontend_->Tokenize(input));
      EXPECT_EQ(ids, c["ids"].get<std::vector<int32_t>>()) << c["name"];
      ++compared;
    }
  }
  EXPECT_GE(compared, 10);
}

TEST_F(FrontendTest, PicturesTakeTheirPlaces) {
  ASSERT_OK(Make());
  GenerateInput input;
  PromptMessage message = TextMessage("user", "a");
  message.parts.push_back(Picture());
  message.parts.push_back(Picture());
  message.parts.push_back({.kind = PromptPart::Kind::kText, .text = "b", .image = {}});
  input.messages.push_back(message);
  ASSERT_OK(Generate(input));
  const EngineRequest& r = engine_.request;
  ASSERT_EQ(r.images.size(), 2);
  EXPECT_EQ(info_.image_tokens, 2 * kPictureTokens);
  EXPECT_EQ(info_.prompt_tokens, static_cast<int64_t>(r.prompt.size()));
  EXPECT_EQ(std::count(r.prompt.begin(), r.prompt.end(), kImage), 2 * kPictureTokens);
  const auto first = std::find(r.prompt.begin(), r.prompt.end(), kImage) - r.prompt.begin();
  EXPECT_EQ(r.images[0].position, first);
  EXPECT_EQ(r.images[1].position, first + kPictureTokens);
  const PreparedImage& image = *r.images[0].image;
  EXPECT_EQ(image.tokens, kPictureTokens);
  EXPECT_EQ(image.tile_count, 2);
  EXPECT_EQ(image.tiles.size(), 2U * 336 * 336 * 3);
  EXPECT_EQ(image.height, 29);
  EXPECT_EQ(image.width, 37);
  EXPECT_EQ(image.key.size(), 32);
  EXPECT_EQ(r.images[0].image, r.images[1].image);  // prepared once
}

TEST_F(FrontendTest, TheEngineHearsWhereMessagesEnd) {
  ASSERT_OK(Make());
  GenerateInput input;
  input.messages = {TextMessage("system", "be brief"), TextMessage("user", "a")};
  input.messages[1].parts.push_back(Picture());
  input.priority = -2;
  input.use_prefix_cache = false;
  ASSERT_OK(Generate(input));
  const EngineRequest& r = engine_.request;
  ASSERT_EQ(r.borders.size(), 2U);
  for (const int64_t border : r.borders) EXPECT_EQ(r.prompt[static_cast<size_t>(border - 1)], kEnd);
  EXPECT_LT(r.borders[0], r.images[0].position);
  EXPECT_GE(r.borders[1], r.images[0].position + kPictureTokens);
  EXPECT_EQ(r.priority, -2);
  EXPECT_FALSE(r.use_anchors);
  // Ids say nothing about messages.
  ASSERT_OK(Generate({.ids = std::vector<int32_t>{5, kEnd, 6}}));
  EXPECT_TRUE(engine_.request.borders.empty());
}

TEST_F(FrontendTest, BadPictures) {
  options_.max_images = 2;
  options_.max_image_pixels = 1000;  // rgb.png has 1073
  ASSERT_OK(Make());
  GenerateInput input;
  input.messages.push_back(TextMessage("user", "x"));
  input.messages[0].parts.push_back(Picture());
  absl::Status status = Generate(input);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("picture 0")));
  EXPECT_EQ(FieldOf(status), "messages");
  input.messages[0].parts[1].image = "not a picture";
  EXPECT_THAT(Generate(input), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("picture 0")));
  input.messages[0].parts.resize(1);
  for (int i = 0; i < 3; ++i) input.messages[0].parts.push_back(Picture());
  EXPECT_THAT(Generate(input), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 2 pictures")));
}

TEST_F(FrontendTest, TheContextIsKept) {
  ASSERT_OK(Make());
  GenerateInput input;
  input.ids = std::vector<int32_t>(kContext, 5);
  absl::Status status = Generate(input);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kOutOfRange,
                               HasSubstr("maximum context length is 4096 tokens, but the prompt has 4096")));
  EXPECT_EQ(FieldOf(status), "prompt");
  input.ids->resize(4000);
  ASSERT_OK(Generate(input));
  EXPECT_EQ(engine_.request.sampling.max_tokens(), 96);  // what is left
  input.sampling.set_max_tokens(97);
  status = Generate(input);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("97 more are asked for")));
  EXPECT_EQ(FieldOf(status), "max_tokens");
  input.truncate_prompt = 10;
  ASSERT_OK(Generate(input));
  EXPECT_EQ(engine_.request.prompt.size(), 10);
  // Four pictures do not fit, and that is known from their headers: nothing after them is sound.
  GenerateInput pictures;
  pictures.messages.push_back(TextMessage("user", "x"));
  for (int i = 0; i < 4; ++i) {
    pictures.messages[0].parts.push_back(Picture());
    std::string& png = pictures.messages[0].parts.back().image;
    std::fill(png.begin() + 60, png.begin() + 1000, 'x');
  }
  EXPECT_THAT(Generate(pictures),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("(4104 of them for pictures)")));
}

TEST_F(FrontendTest, StopIdsAndSeeds) {
  ASSERT_OK(Make());
  GenerateInput input = Text("hi");
  input.sampling.add_stop_ids(9);
  ASSERT_OK(Generate(input));
  EXPECT_THAT(engine_.request.sampling.stop_ids(), ElementsAre(9, kEnd));
  const uint64_t seed = engine_.request.sampling.seed();
  ASSERT_OK(Generate(input));
  EXPECT_NE(engine_.request.sampling.seed(), seed);  // drawn anew; equal once in 2^64
  input.ignore_eos = true;
  input.seed = 0;
  ASSERT_OK(Generate(input));
  EXPECT_THAT(engine_.request.sampling.stop_ids(), ElementsAre(9));
  EXPECT_EQ(engine_.request.sampling.seed(), 0);
}

TEST_F(FrontendTest, TheSameRequestGoesOnWhereAnEarlierServerWas) {
  const auto open = [&] {
    auto saved = SavedRequests::Open({.dir = dir_ + "/state", .probe_bytes = 4096});
    EXPECT_OK(saved.status());
    return *std::move(saved);
  };
  auto saved = open();
  options_.saved = saved.get();
  ASSERT_OK(Make());
  GenerateInput input = Text("hi");
  input.sampling.set_max_tokens(20);
  ASSERT_OK(Generate(input));
  const std::string identity = engine_.request.identity;
  EXPECT_EQ(engine_.request.saved, nullptr);
  engine_.Done(FinishReason::kLength, 0);
  // Anything that may change the answer makes it another request.
  std::set<std::string> others = {identity};
  const auto other = [&](const std::function<void(GenerateInput*)>& change) {
    GenerateInput changed = input;
    change(&changed);
    ASSERT_OK(Generate(changed));
    EXPECT_TRUE(others.insert(engine_.request.identity).second);
    engine_.Done(FinishReason::kLength, 0);
  };
  other([](GenerateInput* i) { i->text = "ho"; });
  other([](GenerateInput* i) { i->client.name = "alice"; });
  other([](GenerateInput* i) { i->seed = 0; });
  other([](GenerateInput* i) { i->stop = {"a"}; });
  other([](GenerateInput* i) { i->ignore_eos = true; });
  other([](GenerateInput* i) { i->sampling.set_choice(1); });
  other([](GenerateInput* i) { i->sampling.set_max_tokens(21); });
  other([](GenerateInput* i) { (*i->sampling.mutable_logit_bias())[5] = 1; });
  other([](GenerateInput* i) { i->form = AnswerForm{.kind = AnswerForm::Kind::kJsonObject}; });
  // Nothing that does not.
  GenerateInput same = input;
  same.request = "again";
  same.priority = 3;
  same.use_prefix_cache = false;
  ASSERT_OK(Generate(same));
  EXPECT_EQ(engine_.request.identity, identity);
  engine_.Done(FinishReason::kLength, 0);

  v1::SavedRequest request;
  request.set_identity(identity);
  request.set_seed(77);
  request.add_tokens()->set_id(5);
  ASSERT_OK_AND_ASSIGN(const std::string folder, saved->NewFolder());
  ASSERT_OK(saved->Commit(folder, {request}));
  const auto next = open();
  options_.saved = next.get();
  ASSERT_OK(Make());
  engine_.refuse = Unavailable("stopping");
  EXPECT_FALSE(Generate(input).ok());
  EXPECT_EQ(next->size(), 1) << "it was not used";
  engine_.refuse = absl::OkStatus();
  ASSERT_OK(Generate(input));
  ASSERT_NE(engine_.request.saved, nullptr);
  EXPECT_EQ(engine_.request.saved->tokens(0).id(), 5);
  EXPECT_EQ(engine_.request.sampling.seed(), 77u) << "the draw goes on";
  engine_.Done(FinishReason::kLength, 0);
  ASSERT_OK(Generate(input));
  EXPECT_EQ(engine_.request.saved, nullptr) << "once";
  engine_.Done(FinishReason::kLength, 0);
  GenerateInput scored = input;
  scored.sampling.set_prompt_logprobs(1);
  ASSERT_OK(Generate(scored));
  EXPECT_EQ(engine_.request.identity, "") << "it begins anew";
  engine_.Done(FinishReason::kLength, 0);
}

TEST_F(FrontendTest, SpecialTokensInTextAreText) {
  ASSERT_OK(Make());
  const std::vector<int32_t> ids = Ids("a<image><end_of_sentence>");
  for (const int32_t id : ids) EXPECT_LT(id, 4257);
  EXPECT_GT(ids.size(), 5);
}

TEST_F(FrontendTest, TextComesInWholeCharacters) {
  ASSERT_OK(Make());
  ASSERT_OK(Generate(Text("hi")));
  const std::string answer = "caf\xc3\xa9 \xf0\x9f\xa6\x86!";
  for (const int32_t id : Ids(answer)) EXPECT_EQ(engine_.Token(id), ResponseSink::Next::kContinue);
  engine_.Done(FinishReason::kStopId, 5, kEnd);
  EXPECT_EQ(text_, answer);
  EXPECT_EQ(result_.finish_reason, "stop");
  EXPECT_EQ(result_.stop_id, -1);  // the model's own end is no stop id of the request
  EXPECT_EQ(result_.completion_tokens, 5);
  EXPECT_EQ(done_, 1);
  EXPECT_EQ(deltas_[0].logprob, -0.5F);
  EXPECT_EQ(deltas_[0].top.size(), 2);
}

TEST_F(FrontendTest, StopStringsEndTheText) {
  ASSERT_OK(Make());
  GenerateInput input = Text("hi");
  input.stop = {"END"};
  ASSERT_OK(Generate(input));
  ResponseSink::Next next = ResponseSink::Next::kContinue;
  const std::vector<int32_t> ids = Ids("before END after");
  size_t used = 0;
  while (next == ResponseSink::Next::kContinue && used < ids.size()) next = engine_.Token(ids[used++]);
  EXPECT_EQ(next, ResponseSink::Next::kStop);
  EXPECT_LT(used, ids.size());
  EXPECT_TRUE(deltas_.back().last);
  engine_.Done(FinishReason::kStopString, static_cast<int64_t>(used));
  EXPECT_EQ(text_, "before ");
  EXPECT_EQ(result_.finish_reason, "stop");
  EXPECT_EQ(result_.stop_string, "END");
}

// An edge that has what it wanted: to the server that is an answer like any other.
TEST_F(FrontendTest, WhoHasEnoughEndsTheAnswer) {
  ASSERT_OK(Make());
  enough_ = "s!";
  ASSERT_OK(Generate(Text("hi")));
  std::vector<ResponseSink::Next> next;
  for (const int32_t id : Ids("yes!")) next.push_back(engine_.Token(id));
  EXPECT_EQ(next.back(), ResponseSink::Next::kStop);
  EXPECT_EQ(std::ranges::count(next, ResponseSink::Next::kStop), 1);
  engine_.Done(FinishReason::kStopString, std::ssize(next));
  EXPECT_EQ(result_.finish_reason, "stop");
  EXPECT_EQ(result_.stop_string, "");
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, HasSubstr("fulger_requests_finished_total{finished_reason=\"stop\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("fulger_requests_finished_total{finished_reason=\"abort\"} 0\n"));
}

TEST_F(FrontendTest, TheLastTokenBringsWhatWasHeldBack) {
  ASSERT_OK(Make());
  GenerateInput input = Text("hi");
  input.stop = {"!!"};
  const std::vector<int32_t> ids = Ids("yes!");
  input.sampling.set_max_tokens(static_cast<int32_t>(ids.size()));
  ASSERT_OK(Generate(input));
  for (const int32_t id : ids) engine_.Token(id);
  EXPECT_EQ(text_, "yes!");
  EXPECT_TRUE(deltas_.back().last);
  EXPECT_EQ(deltas_.size(), ids.size());
  engine_.Done(FinishReason::kLength, static_cast<int64_t>(ids.size()));
  EXPECT_EQ(deltas_.size(), ids.size());  // nothing came after the last
  EXPECT_EQ(result_.finish_reason, "length");
}

TEST_F(FrontendTest, TextHeldBackAtTheModelsEndStillComes) {
  ASSERT_OK(Make());
  GenerateInput input = Text("hi");
  input.stop = {"!!"};
  ASSERT_OK(Generate(input));
  for (const int32_t id : Ids("yes!")) engine_.Token(id);
  EXPECT_EQ(text_, "yes");
  engine_.Done(FinishReason::kStopId, 2, kEnd);
  EXPECT_EQ(text_, "yes!");
  EXPECT_EQ(deltas_.back().id, -1);
}

TEST_F(FrontendTest, OwnStopIdsErrorsAndCancels) {
  ASSERT_OK(Make());
  GenerateInput input = Text("hi");
  input.sampling.add_stop_ids(9);
  ASSERT_OK(Generate(input));
  engine_.Done(FinishReason::kStopId, 0, 9);
  EXPECT_EQ(result_.stop_id, 9);
  ASSERT_OK(Generate(input));
  EXPECT_TRUE(frontend_->Cancel("r1"));
  engine_.Done(FinishReason::kCancelled, 0);
  EXPECT_EQ(result_.finish_reason, "cancelled");
  ASSERT_OK(Generate(input));
  Completion failed;
  failed.reason = FinishReason::kError;
  failed.error = Internal("layer 3: NaN");
  engine_.sink->OnDone(failed);
  EXPECT_EQ(result_.finish_reason, "error");
  EXPECT_EQ(Message(result_.error), "layer 3: NaN");
  engine_.refuse = ResourceExhausted("full");
  EXPECT_THAT(Generate(input), StatusIs(absl::StatusCode::kResourceExhausted, "full"));
}

TEST_F(FrontendTest, MetricsFollowTheRequest) {
  ASSERT_OK(Make());
  ASSERT_OK(Generate(Text("hi")));
  clock_.Advance(std::chrono::milliseconds(30));
  engine_.Token(5);
  clock_.Advance(std::chrono::milliseconds(20));
  engine_.Token(6);
  engine_.Done(FinishReason::kLength, 2);
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, HasSubstr("fulger_time_to_first_token_seconds_sum 0.03\n"));
  EXPECT_THAT(text, HasSubstr("fulger_inter_token_latency_seconds_sum 0.02\n"));
  EXPECT_THAT(text, HasSubstr("fulger_request_latency_seconds_sum 0.05\n"));
  EXPECT_THAT(text, HasSubstr("fulger_generation_tokens_total 2\n"));
  EXPECT_THAT(text, HasSubstr("fulger_requests_finished_total{finished_reason=\"length\"} 1\n"));
}

TEST_F(FrontendTest, BadInputsNameTheField) {
  ASSERT_OK(Make());
  const auto field = [&](const GenerateInput& input) {
    const absl::Status status = Generate(input);
    EXPECT_FALSE(status.ok());
    return FieldOf(status).value_or("none");
  };
  EXPECT_EQ(field({}), "prompt");
  EXPECT_EQ(field(Text("")), "prompt");
  EXPECT_EQ(field(Text("\xff")), "prompt");
  GenerateInput input;
  input.ids = {1, 4300};
  EXPECT_EQ(field(input), "prompt");
  input.ids = {1, kImage};  // a placeholder without a picture
  EXPECT_EQ(field(input), "prompt");
  input = Text("x");
  input.stop = {""};
  EXPECT_EQ(field(input), "stop");
  input = Text("x");
  input.sampling.add_stop_ids(-1);
  EXPECT_EQ(field(input), "stop_token_ids");
  input = Text("x");
  (*input.sampling.mutable_logit_bias())[4300] = 1;
  EXPECT_EQ(field(input), "logit_bias");
  input = Text("x");
  input.sampling.set_temperature(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(field(input), "temperature");
  input = Text("x");
  input.sampling.set_max_tokens(-1);
  EXPECT_EQ(field(input), "max_tokens");
  input = {};
  input.messages.push_back(TextMessage("robot", "x"));
  EXPECT_EQ(field(input), "messages[0].role");
  input = Text("x");
  input.sampling.set_max_tokens(2);
  input.sampling.set_min_tokens(3);
  EXPECT_EQ(field(input), "min_tokens");
}

TEST_F(FrontendTest, ADeadlineEndsTheRequest) {
  options_.clock = nullptr;  // the watch sleeps by the steady clock
  ASSERT_OK(Make());
  GenerateInput input = Text("x");
  input.deadline = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  EXPECT_THAT(Generate(input), StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("before it began")));
  input.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  ASSERT_OK(Generate(input));
  ASSERT_EQ(engine_.cancelled.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  engine_.Done(FinishReason::kCancelled, 0);
  EXPECT_EQ(result_.finish_reason, "error");
  EXPECT_THAT(result_.error, StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("time is up")));
}

TEST_F(FrontendTest, WhatWaitsIsBoundedBeforePicturesAreDecoded) {
  options_.admission.queued_requests = 1;
  ASSERT_OK(Make());
  ASSERT_OK(Generate(Text("x")));
  GenerateInput input;
  input.messages.push_back(TextMessage("user", "x"));
  const absl::Status refused = Generate(input);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1 requests are waiting")));
  EXPECT_TRUE(RetryAfterOf(refused).has_value());
  engine_.Token(5);  // the first one waits no more
  EXPECT_OK(Generate(input));
}

TEST_F(FrontendTest, CardAndTokenText) {
  ASSERT_OK(Make());
  EXPECT_EQ(frontend_->card().id, "tiny");
  EXPECT_TRUE(frontend_->card().vision);
  EXPECT_EQ(frontend_->card().vocab, 4300);
  ASSERT_OK_AND_ASSIGN(const std::string text, frontend_->Detokenize(Ids("hello there")));
  EXPECT_EQ(text, "hello there");
  EXPECT_EQ(frontend_->TokenText(kEnd), "<end_of_sentence>");
}

TEST_F(FrontendTest, CheckpointsThatDoNotFitTogether) {
  config_["image_token_index"] = 7;
  EXPECT_THAT(Make(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token 7, the tokenizer says 4261")));
  config_["image_token_index"] = kImage;
  config_["text_config"]["vocab_size"] = 4262;
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ids up to 4263")));
}

}  // namespace
}  // namespace fulger
