#include <nlohmann/json.hpp>
#include <string>

#include "base/check.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/http_test_client.h"
#include "coordinator/api/openai_request.h"
#include "tests/fuzz/fuzz_target.h"

namespace fulger {
namespace {

void CheckRefusal(const absl::Status& status) {
  if (status.ok()) return;
  FULGER_CHECK(status.code() == absl::StatusCode::kInvalidArgument, "{}", Message(status));
  const auto body =
      nlohmann::json::parse(ErrorJson(400, Message(status)), nullptr, /*allow_exceptions=*/false);
  FULGER_CHECK(body.is_object(), "an error that is no JSON");
}

class EchoServer {
 public:
  EchoServer() {
    HttpServerOptions options;
    options.port = 0;
    options.max_body_bytes = 1 << 16;
    options.header_timeout = options.body_timeout = std::chrono::milliseconds(500);
    Router router;
    router.Add("POST", "/echo", [](auto request, auto responder) {
      responder->Send({.content_type = "text/plain", .body = request->body});
    });
    router.Add("GET", "/", [](auto, auto responder) { responder->Send({}); });
    auto started = HttpServer::Start(options, std::move(router));
    FULGER_CHECK(started.ok(), "{}", Message(started.status()));
    server_ = *std::move(started);
  }
  uint16_t port() const { return server_->port(); }

 private:
  std::unique_ptr<HttpServer> server_;
};

}  // namespace

void FuzzOpenAiRequest(std::string_view bytes) {
  const OpenAiLimits limits{.vocab = 1000, .max_choices = 8, .max_image_bytes = 1 << 16, .max_images = 4};
  CheckRefusal(ParseChatRequest(bytes, limits).status());
  CheckRefusal(ParseCompletionRequest(bytes, limits).status());
  CheckRefusal(ParseTokenizeRequest(bytes, limits).status());
  CheckRefusal(ParseDetokenizeRequest(bytes, limits).status());
}

// Whatever arrives, the connection ends after what was sent, answers look like HTTP, and the next client is
// served.
void FuzzHttp(std::string_view bytes) {
  static const auto* const server = new EchoServer();  // lives as long as the process
  {
    TestClient client(server->port());
    if (!client.connected()) return;  // ports run short at thousands of connections a second
    client.Send(bytes);
    client.FinishSending();
    const std::string answer = client.ReadToEnd();
    FULGER_CHECK(answer.empty() || answer.starts_with("HTTP/1."), "answered {} bytes of something else",
                 answer.size());
  }
  TestClient next(server->port());
  if (!next.connected()) return;
  FULGER_CHECK(next.Call("POST", "/echo", "still here").body == "still here",
               "the next client was not served");
}

}  // namespace fulger
