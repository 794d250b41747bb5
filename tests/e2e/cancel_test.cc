// A client that leaves or cancels, through real sockets, the real frontend and the real engine, before a
// replica whose answers come one by one, by the test's hand: so steps can be counted. Whatever the client's
// way to leave, its sequence is in no plan made after, and its slot and KV pages are free with the answer to
// the last step that was in flight; beside it another request gets the tokens that it gets alone.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "coordinator/api/grpc_api.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/http_test_client.h"
#include "coordinator/api/openai.h"
#include "coordinator/engine/engine_test_util.h"
#include "coordinator/engine/fake_backend.h"
#include "coordinator/frontend/frontend.h"
#include "fulger/v1/generate.grpc.pb.h"
#include "monitoring/metrics/server_metrics.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kContext = 200, kStayerTokens = 60, kLeaverTokens = 100;
constexpr size_t kStepsInFlight = 2;
constexpr ReplicaCapacity kCapacity = {
    .blocks = 400, .block_size = 4, .slots = 8, .max_step_tokens = 64, .stages = 1};
const std::vector<int32_t> kStayerPrompt = {11, 12, 13, 14, 15}, kLeaverPrompt = {21, 22, 23};

// Whether it came true in time.
bool Eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

class CancelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ =
        testing::TempDir() + "fulger_cancel_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(dir_);
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::copy_file(std::string("tests/golden/text/tokenizer_split/") + name, dir_ + "/" + name,
                                 std::filesystem::copy_options::overwrite_existing);
    }
    const auto text = ReadFile("tests/golden/model/data/configs/g6.json");
    ASSERT_OK(text.status());
    auto config = nlohmann::json::parse(*text);
    config["image_token_index"] = 4261;
    config["text_config"]["vocab_size"] = 4300;
    std::ofstream(dir_ + "/config.json") << config.dump();

    auto frontend =
        MakeFrontend({.model_dir = dir_, .model_name = "tiny", .max_context = kContext, .metrics = &metrics_},
                     engine_.get());
    ASSERT_OK(frontend.status());
    frontend_ = *std::move(frontend);
    api_ = std::make_unique<OpenAiApi>(OpenAiOptions{}, frontend_.get(), &registry_, &metrics_);
    Router router;
    api_->Register(&router);
    auto http = HttpServer::Start({.port = 0}, std::move(router));
    ASSERT_OK(http.status());
    http_ = *std::move(http);
    auto grpc = GrpcApi::Start({.address = "127.0.0.1:0"}, frontend_.get(), &metrics_);
    ASSERT_OK(grpc.status());
    grpc_ = *std::move(grpc);
    stub_ = v1::Fulger::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(grpc_->port()),
                                                    grpc::InsecureChannelCredentials()));
    backend_.Up(engine_->Events(0));
    engine_->Events(0)->OnProbeDue(1);
    ASSERT_TRUE(Eventually([&] {
      backend_.AnswerStep(engine_->Events(0));
      return CheckReady(engine_->Stats(), std::chrono::minutes(1)).ok();
    }));
    StartStayer();
  }
  void TearDown() override {
    engine_->Drain(std::chrono::seconds(0));  // after a failure the stayer still waits
    std::filesystem::remove_all(dir_);
  }

  // Answers the oldest step in flight and waits until the engine has made what follows from it.
  void AnswerStep() {
    const uint64_t before = engine_->Stats().steps;
    ASSERT_TRUE(Eventually([&] { return backend_.AnswerStep(engine_->Events(0)); })) << "no step in flight";
    ASSERT_TRUE(Eventually([&] { return engine_->Stats().steps == before + 1; }));
  }
  // All answers to steps have been heard, and as many are in flight again as may be.
  void Settle() {
    ASSERT_TRUE(Eventually([&] {
      constexpr size_t kProbes = 1;
      return backend_.plans().size() == kProbes + engine_->Stats().steps + kStepsInFlight;
    }));
  }

  v1::GenerateRequest Request(const std::string& id, const std::vector<int32_t>& prompt, int64_t tokens) {
    v1::GenerateRequest request;
    request.set_request_id(id);
    request.mutable_tokens()->mutable_ids()->Assign(prompt.begin(), prompt.end());
    request.mutable_sampling()->set_max_tokens(static_cast<int32_t>(tokens));
    request.mutable_sampling()->set_seed(7);
    request.set_has_seed(true);
    request.set_ignore_eos(true);
    return request;
  }
  std::string Body(const std::string& more) {
    nlohmann::json body = {{"model", "tiny"},  {"prompt", kLeaverPrompt}, {"max_tokens", kLeaverTokens},
                           {"temperature", 0}, {"ignore_eos", true},      {"seed", 7}};
    body.update(nlohmann::json::parse(more));
    return body.dump();
  }

  void StartStayer() {
    stayer_ = std::async(std::launch::async, [this] {
      grpc::ClientContext context;
      auto reader = stub_->Generate(&context, Request("stayer", kStayerPrompt, kStayerTokens));
      v1::GenerateResponse response;
      while (reader->Read(&response)) {
        stayer_ids_.insert(stayer_ids_.end(), response.ids().begin(), response.ids().end());
      }
      return reader->Finish();
    });
    ASSERT_TRUE(Eventually([&] { return engine_->Stats().running == 1; }));
    for (int i = 0; i < 4; ++i) AnswerStep();
  }

  // `choices` sequences of the leaver run beside the stayer's; `leave` takes them away.
  void ExpectFreed(int64_t choices, const std::function<void()>& leave) {
    ASSERT_TRUE(Eventually([&] { return engine_->Stats().waiting == choices; }));
    for (int i = 0; i < 5; ++i) AnswerStep();
    Settle();
    const EngineStats full = engine_->Stats();
    ASSERT_EQ(full.slots_used, 1 + choices);
    const auto before = backend_.plans();
    std::vector<uint64_t> leavers;
    uint64_t stayer = 0;
    for (const auto& plan : before) {
      for (const v1::NewSequence& s : plan->new_sequences()) {
        s.request() == "stayer" ? stayer = s.sequence() : (leavers.push_back(s.sequence()), 0U);
      }
    }
    ASSERT_EQ(static_cast<int64_t>(leavers.size()), choices);

    leave();
    // Not one step is answered meanwhile: it is the client's leaving that ends the request.
    ASSERT_TRUE(Eventually([&] { return engine_->Stats().running == 1; }));
    ASSERT_EQ(backend_.plans().size(), before.size());
    for (size_t step = 0; step < kStepsInFlight; ++step) {
      EXPECT_EQ(engine_->Stats().slots_used, full.slots_used) << "a step in flight writes there";
      AnswerStep();
    }
    const EngineStats freed = engine_->Stats();
    EXPECT_EQ(freed.slots_used, 1);
    const int64_t stayer_length = std::ssize(kStayerPrompt) + static_cast<int64_t>(freed.steps);
    EXPECT_LE(freed.blocks_used, stayer_length / kCapacity.block_size + 2) << "only the stayer's pages";
    const auto plans = backend_.plans();
    ASSERT_GT(plans.size(), before.size());
    const v1::StepPlan& next = *plans[before.size()];
    EXPECT_EQ(std::vector<uint64_t>(next.retired().begin(), next.retired().end()), leavers)
        << "the first plan made after tells the ranks";
    for (size_t i = before.size(); i < plans.size(); ++i) {
      ASSERT_EQ(plans[i]->rows_size(), 1) << "plan " << i;
      EXPECT_EQ(plans[i]->rows(0).sequence(), stayer) << "plan " << i;
    }
  }

  void ExpectFreedOverGrpc(const std::function<void(grpc::ClientContext*)>& leave);

  // The stayer's answer is what it is alone, and nothing is left behind.
  void ExpectUndisturbed() {
    ASSERT_TRUE(Eventually([&] {
      backend_.AnswerStep(engine_->Events(0));
      return stayer_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    }));
    const grpc::Status status = stayer_.get();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EngineRequest alone = MakeRequest("alone", kStayerPrompt, kStayerTokens);
    EXPECT_EQ(stayer_ids_, ToyReference(alone, kContext).tokens);
    while (backend_.AnswerStep(engine_->Events(0))) {
    }
    EXPECT_TRUE(Eventually([&] {
      const EngineStats stats = engine_->Stats();
      return stats.slots_used == 0 && stats.blocks_used == 0 && stats.running == 0;
    }));
    EXPECT_THAT(backend_.violations(), IsEmpty());
  }

  std::string dir_;
  SteadyClock clock_;
  MetricRegistry registry_;
  ServerMetrics metrics_{&registry_, {.version = "1"}};
  FakeBackend backend_{kCapacity};
  std::unique_ptr<Engine> engine_ =
      Engine::Create({.max_running_requests = 8, .max_context = kContext, .steps_in_flight = kStepsInFlight},
                     {&backend_}, &clock_);
  std::unique_ptr<Frontend> frontend_;
  std::unique_ptr<OpenAiApi> api_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcApi> grpc_;
  std::unique_ptr<v1::Fulger::Stub> stub_;
  std::vector<int32_t> stayer_ids_;
  std::future<grpc::Status> stayer_;
};

TEST_F(CancelTest, AStreamingHttpClientDisconnects) {
  TestClient client(http_->port());
  client.Send(TestClient::Request("POST", "/v1/completions", Body(R"({"stream":true})")));
  ExpectFreed(1, [&] {
    client.ReadUntil("\r\n\r\n");
    bool complete = false;
    EXPECT_THAT(client.ReadChunk(&complete), HasSubstr("\"text\":"));
    client.Close();
  });
  ExpectUndisturbed();
}

TEST_F(CancelTest, AnHttpClientThatWaitsForAWholeAnswerDisconnects) {
  TestClient client(http_->port());
  client.Send(TestClient::Request("POST", "/v1/completions", Body("{}")));
  ExpectFreed(1, [&] { client.Close(); });
  ExpectUndisturbed();
}

TEST_F(CancelTest, AllChoicesOfOneWhoDisconnectsEnd) {
  TestClient client(http_->port());
  client.Send(TestClient::Request("POST", "/v1/completions", Body(R"({"n":3,"temperature":1})")));
  ExpectFreed(3, [&] { client.Close(); });
  ExpectUndisturbed();
}

// The leaver's call, in which a token has come when `leave` is called, ends as cancelled.
void CancelTest::ExpectFreedOverGrpc(const std::function<void(grpc::ClientContext*)>& leave) {
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request("leaver", kLeaverPrompt, kLeaverTokens));
  v1::GenerateResponse response;
  ExpectFreed(1, [&] {
    EXPECT_TRUE(reader->Read(&response));
    leave(&context);
  });
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  ExpectUndisturbed();
}

TEST_F(CancelTest, AGrpcClientCancelsItsCall) {
  ExpectFreedOverGrpc([](grpc::ClientContext* call) { call->TryCancel(); });
}

// Its own clock ends the call: nobody sends anything.
TEST_F(CancelTest, AGrpcClientsDeadlinePasses) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
  auto reader = stub_->Generate(&context, Request("leaver", kLeaverPrompt, kLeaverTokens));
  v1::GenerateResponse response;
  ExpectFreed(1, [&] {
    while (reader->Read(&response)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  });
  ExpectUndisturbed();
}

TEST_F(CancelTest, AGrpcClientCancelsByName) {
  ExpectFreedOverGrpc([this](grpc::ClientContext*) {
    grpc::ClientContext other;
    v1::CancelRequest cancel;
    cancel.set_request_id("leaver");
    v1::CancelResponse cancelled;
    EXPECT_TRUE(stub_->Cancel(&other, cancel, &cancelled).ok());
    EXPECT_TRUE(cancelled.found());
  });
}

}  // namespace
}  // namespace fulger
