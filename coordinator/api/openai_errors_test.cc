// Every kind of error that a client can get, in the form that OpenAI's clients parse, through real sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "coordinator/api/fake_frontend.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/http_test_client.h"
#include "coordinator/api/openai.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

struct Row {
  int status;
  const char* type;
  const char* param = nullptr;  // null: JSON's
  const char* code = nullptr;
  bool come_again = false;  // Retry-After
};

class OpenAiErrorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(keys_.Reload());
    options_.keys = &keys_;
    api_ = std::make_unique<OpenAiApi>(options_, &frontend_, &registry_, &metrics_);
    Router router;
    api_->Register(&router);
    HttpServerOptions http;
    http.port = 0;
    http.max_header_bytes = 4096;
    http.max_body_bytes = 10'000;
    http.header_timeout = std::chrono::milliseconds(300);
    auto server = HttpServer::Start(http, std::move(router));
    ASSERT_OK(server.status());
    server_ = *std::move(server);
  }
  TestResponse Ask(const std::string& body, const std::string& more = "") {
    return TestClient(server_->port())
        .Call("POST", "/v1/chat/completions", body, "Authorization: Bearer secret\r\n" + more);
  }
  static std::string Chat(const std::string& more = "") {
    return R"({"model":"tiny","messages":[{"role":"user","content":"hi"}])" + more + "}";
  }
  // What a frontend answers, and how a client sees it.
  TestResponse Refused(const absl::Status& status) {
    frontend_.refuse = status;
    return Ask(Chat());
  }
  static void Expect(const TestResponse& r, const Row& row) {
    SCOPED_TRACE(r.head + r.body);
    EXPECT_EQ(r.status, row.status);
    EXPECT_EQ(r.Header("Content-Type"), "application/json");
    const auto body = nlohmann::json::parse(r.body, nullptr, false);
    ASSERT_TRUE(body.is_object() && body.size() == 1 && body.contains("error"));
    const auto& error = body["error"];
    ASSERT_EQ(error.size(), 4u);
    EXPECT_FALSE(error.at("message").get<std::string>().empty());
    EXPECT_EQ(error.at("type"), row.type);
    const auto text = [](const char* value) {
      return value == nullptr ? nlohmann::json() : nlohmann::json(value);
    };
    EXPECT_EQ(error.at("param"), text(row.param));
    EXPECT_EQ(error.at("code"), text(row.code));
    EXPECT_EQ(!r.Header("Retry-After").empty(), row.come_again);
  }

  FakeFrontend frontend_;
  MetricRegistry registry_;
  ServerMetrics metrics_{&registry_, {.version = "1.2.3"}};
  ApiKeyRing keys_{{"secret"}, ""};
  OpenAiOptions options_;
  std::unique_ptr<OpenAiApi> api_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(OpenAiErrorsTest, BadRequests) {
  const char* invalid = "invalid_request_error";
  Expect(Ask(Chat(R"(,"top_p":2)")), {400, invalid, "top_p"});
  Expect(Ask("{"), {400, invalid});
  Expect(Ask(Chat(), "x-request-timeout: soon\r\n"), {400, invalid, "x-request-timeout"});
  Expect(Refused(FieldError("stop", "too many")), {400, invalid, "stop"});
  Expect(Refused(WithField(OutOfRange("messages: too long"), "messages")),
         {400, invalid, "messages", "context_length_exceeded"});
}

TEST_F(OpenAiErrorsTest, KeysPathsAndMethods) {
  Expect(TestClient(server_->port()).Call("POST", "/v1/chat/completions", Chat()),
         {401, "authentication_error", nullptr, "invalid_api_key"});
  Expect(Ask(R"({"model":"other","messages":[{"role":"user","content":"hi"}]})"),
         {404, "not_found_error", "model", "model_not_found"});
  Expect(TestClient(server_->port()).Call("GET", "/v1/models/other", "", "Authorization: Bearer secret\r\n"),
         {404, "not_found_error", "model", "model_not_found"});
  Expect(TestClient(server_->port()).Call("GET", "/v1/nothing"), {404, "not_found_error"});
  Expect(TestClient(server_->port()).Call("GET", "/v1/chat/completions"), {405, "invalid_request_error"});
}

TEST_F(OpenAiErrorsTest, SizesAndTimes) {
  Expect(Ask(std::string(10'001, ' ')), {413, "invalid_request_error"});
  Expect(Ask(Chat(), "X: " + std::string(5000, 'x') + "\r\n"), {431, "invalid_request_error"});
  TestClient slow(server_->port());
  slow.Send("POST /v1/chat");
  Expect(slow.ReadResponse(), {408, "invalid_request_error"});
  Expect(Refused(MakeStatus(absl::StatusCode::kDeadlineExceeded, "late")), {504, "server_error"});
}

TEST_F(OpenAiErrorsTest, OverloadAndUnavailable) {
  Expect(Refused(ResourceExhausted("the queue is full")), {429, "rate_limit_error", nullptr, nullptr, true});
  Expect(Refused(Unavailable("the server is stopping")), {503, "server_error", nullptr, nullptr, true});
  Expect(Refused(Internal("a bug")), {500, "server_error"});
  EngineStats down;
  down.down_reason = "loading";
  frontend_.SetStats(down);
  Expect(Ask(Chat()), {503, "server_error", nullptr, nullptr, true});
  Expect(TestClient(server_->port()).Call("GET", "/health/ready"),
         {503, "server_error", nullptr, nullptr, true});
}

// Whatever answers: the routes of the API, cheap ones, the router, refusals.
TEST_F(OpenAiErrorsTest, EveryAnswerHasTheClientsRequestId) {
  frontend_.script = [](FakeFrontend::Submission& s) { s.Done("stop", 0); };
  const std::string chat = "/v1/chat/completions";
  for (const auto& [method, path, status] : {std::tuple("GET", std::string("/v1/models"), 200),
                                             {"GET", "/health", 200},
                                             {"GET", "/v1/nothing", 404},
                                             {"GET", chat, 405},
                                             {"POST", chat, 400},
                                             {"GET", "/metrics", 200}}) {
    const TestResponse r =
        TestClient(server_->port())
            .Call(method, path, "", "Authorization: Bearer secret\r\nX-REQUEST-ID: mine-1\r\n");
    EXPECT_EQ(r.status, status) << path;
    EXPECT_EQ(r.Header("x-request-id"), "mine-1") << path;
  }
  const TestResponse r = Ask(Chat(R"(,"stream":true)"), "x-request-id: mine-2\r\n");
  EXPECT_EQ(r.Header("x-request-id"), "mine-2");
  EXPECT_EQ(r.head.find("x-request-id", r.head.find("x-request-id") + 1), std::string::npos) << r.head;
}

// Headers that OpenAI's clients send with every request, and retries of their own.
TEST_F(OpenAiErrorsTest, ClientsHeadersChangeNothing) {
  frontend_.script = [](FakeFrontend::Submission& s) { s.Done("stop", 0); };
  EXPECT_EQ(Ask(Chat(),
                "Idempotency-Key: stainless-python-retry-1\r\nX-Stainless-Retry-Count: 1\r\n"
                "OpenAI-Organization: o\r\nOpenAI-Project: p\r\n")
                .status,
            200);
}

}  // namespace
}  // namespace fulger
