// The HTTP API through real sockets, on a frontend that the tests play themselves.
#include "coordinator/api/openai.h"

#include <future>
#include <limits>
#include <regex>
#include <thread>

#include "coordinator/api/fake_frontend.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/http_test_client.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;

constexpr char kChat[] = "/v1/chat/completions";
constexpr char kText[] = "/v1/completions";

// Ids and times differ in every run: they become X and 0.
std::string Steady(std::string text) {
  text = std::regex_replace(text, std::regex("(chatcmpl|cmpl)-[0-9a-f]{32}"), "$1-X");
  text = std::regex_replace(text, std::regex("call_[0-9a-f]{32}"), "call_X");
  return std::regex_replace(text, std::regex("\"created\":[0-9]+"), "\"created\":0");
}

class OpenAiTest : public ::testing::Test {
 protected:
  void Serve(OpenAiOptions options = {}) {
    options.version = "1.2.3";
    options.server_info = [] { return std::string(R"({"device":"cpu"})"); };
    api_ = std::make_unique<OpenAiApi>(options, &frontend_, &registry_, &metrics_);
    Router router;
    api_->Register(&router);
    HttpServerOptions http;
    http.port = 0;
    http.max_body_bytes = 1 << 20;
    auto server = HttpServer::Start(http, std::move(router));
    ASSERT_OK(server.status());
    server_ = *std::move(server);
  }
  TestResponse Call(const std::string& method, const std::string& path, const std::string& body = "",
                    const std::string& headers = "") {
    return TestClient(server_->port()).Call(method, path, body, headers);
  }
  std::string Metrics() { return registry_.Serialize(); }

  FakeFrontend frontend_;
  MetricRegistry registry_;
  ServerMetrics metrics_{&registry_, {.version = "1.2.3"}};
  std::unique_ptr<OpenAiApi> api_;
  std::unique_ptr<HttpServer> server_;
};

std::string ChatBody(const std::string& more = "") {
  return R"({"model":"tiny","messages":[{"role":"user","content":"hi"}])" + more + "}";
}

TEST_F(OpenAiTest, ChatStreamIsTheseBytes) {
  Serve();
  TestClient client(server_->port());
  client.Send(TestClient::Request("POST", kChat,
                                  ChatBody(R"(,"stream":true,"stream_options":{"include_usage":true})")));
  auto s = frontend_.Wait(0);
  ASSERT_NE(s, nullptr);
  const std::string head = client.ReadUntil("\r\n\r\n");  // before any token
  EXPECT_THAT(head, HasSubstr("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream\r\n"));
  bool complete = false;
  s->Token("Hel");
  EXPECT_EQ(
      Steady(client.ReadChunk(&complete)),
      R"(data: {"id":"chatcmpl-X","object":"chat.completion.chunk","created":0,"model":"tiny","choices":)"
      R"([{"index":0,"delta":{"role":"assistant","content":"Hel"},"logprobs":null,"finish_reason":null}]})"
      "\n\n");
  s->Token("");  // half a character: still a token, still a chunk
  EXPECT_EQ(
      Steady(client.ReadChunk(&complete)),
      R"(data: {"id":"chatcmpl-X","object":"chat.completion.chunk","created":0,"model":"tiny","choices":)"
      R"([{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":null}]})"
      "\n\n");
  s->Token("\xc3\xa9\"\n", 8);
  EXPECT_THAT(client.ReadChunk(&complete), HasSubstr("{\"content\":\"\xc3\xa9\\\"\\n\"}"));
  s->Done("stop", 3);
  std::string rest, chunk;
  while (!(chunk = client.ReadChunk(&complete)).empty()) rest += chunk;
  EXPECT_EQ(
      Steady(rest),
      R"(data: {"id":"chatcmpl-X","object":"chat.completion.chunk","created":0,"model":"tiny","choices":)"
      R"([{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}]})"
      "\n\n"
      R"(data: {"id":"chatcmpl-X","object":"chat.completion.chunk","created":0,"model":"tiny","choices":[],)"
      R"("usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8,)"
      R"("prompt_tokens_details":{"cached_tokens":2,"image_tokens":1}}})"
      "\n\ndata: [DONE]\n\n");
  EXPECT_TRUE(complete);
}

TEST_F(OpenAiTest, TheLastTokenTravelsWithTheEnd) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    s.Token("a");
    s.Token("b", 8, /*last=*/true);
    s.Done("length", 2);
  };
  Serve();
  const TestResponse r = Call("POST", kChat, ChatBody(R"(,"stream":true,"stream_options":{})"));
  EXPECT_EQ(
      Steady(r.body),
      R"(data: {"id":"chatcmpl-X","object":"chat.completion.chunk","created":0,"model":"tiny","choices":)"
      R"([{"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":null,"finish_reason":null}]})"
      "\n\n"
      R"(data: {"id":"chatcmpl-X","object":"chat.completion.chunk","created":0,"model":"tiny","choices":)"
      R"([{"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":"length","stop_reason":null}]})"
      "\n\ndata: [DONE]\n\n");
}

TEST_F(OpenAiTest, ContinuousUsage) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    s.Token("a");
    s.Token("b");
    s.Done("stop", 2);
  };
  Serve();
  const TestResponse r = Call("POST", kText,
                              R"({"prompt":"x","stream":true,"stream_options":)"
                              R"({"include_usage":false,"continuous_usage_stats":true}})");
  EXPECT_THAT(r.body,
              HasSubstr(R"("text":"a","logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":5,)"
                        R"("completion_tokens":1,"total_tokens":6)"));
  EXPECT_THAT(r.body, HasSubstr(R"("completion_tokens":2,"total_tokens":7)"));
  EXPECT_THAT(r.body, ::testing::Not(HasSubstr("\"choices\":[],")));
}

TEST_F(OpenAiTest, ChatWhole) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    s.Token("Hel");
    s.Token("lo");
    TextDelta rest;  // text without a token
    rest.text = "!";
    s.handlers.on_delta(std::move(rest));
    s.Done("stop", 2, "END");
  };
  Serve();
  const TestResponse r = Call("POST", kChat, ChatBody(), "X-Request-Id: abc-1\r\n");
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.Header("x-request-id"), "abc-1");
  EXPECT_EQ(
      Steady(r.body),
      R"({"id":"chatcmpl-X","object":"chat.completion","created":0,"model":"tiny","choices":[{"index":0,)"
      R"("message":{"role":"assistant","content":"Hello!"},"logprobs":null,"finish_reason":"stop",)"
      R"("stop_reason":"END"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,)"
      R"("prompt_tokens_details":{"cached_tokens":2,"image_tokens":1}}})");
}

TEST_F(OpenAiTest, SeveralChoicesAndPrompts) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    EXPECT_EQ(s.input.copies, 1) << "so that the engine runs each prompt once";
    s.Token(*s.input.text + std::to_string(s.input.sampling.choice()));
    s.Done("length", 1);
  };
  Serve();
  const TestResponse r = Call("POST", kText, R"({"prompt":["p","q"],"n":2,"echo":true})");
  EXPECT_EQ(Steady(r.body),
            R"({"id":"cmpl-X","object":"text_completion","created":0,"model":"tiny","choices":[)"
            R"({"index":0,"text":"pp0","logprobs":null,"finish_reason":"length","stop_reason":null},)"
            R"({"index":1,"text":"pp1","logprobs":null,"finish_reason":"length","stop_reason":null},)"
            R"({"index":2,"text":"qq0","logprobs":null,"finish_reason":"length","stop_reason":null},)"
            R"({"index":3,"text":"qq1","logprobs":null,"finish_reason":"length","stop_reason":null}],)"
            R"("usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14,)"
            R"("prompt_tokens_details":{"cached_tokens":4,"image_tokens":2}}})");
}

TEST_F(OpenAiTest, StreamedChoicesEachHaveARoleAndAnEnd) {
  Serve();
  TestClient client(server_->port());
  client.Send(TestClient::Request("POST", kChat, ChatBody(R"(,"stream":true,"n":2)")));
  auto a = frontend_.Wait(0), b = frontend_.Wait(1);
  ASSERT_NE(b, nullptr);
  EXPECT_NE(a->input.id, b->input.id);
  client.ReadUntil("\r\n\r\n");
  bool complete = false;
  b->Token("B");
  EXPECT_THAT(client.ReadChunk(&complete),
              HasSubstr(R"("index":1,"delta":{"role":"assistant","content":"B"})"));
  a->Token("A");
  EXPECT_THAT(client.ReadChunk(&complete),
              HasSubstr(R"("index":0,"delta":{"role":"assistant","content":"A"})"));
  a->Done("stop", 1);
  EXPECT_THAT(client.ReadChunk(&complete),
              HasSubstr(R"("index":0,"delta":{},"logprobs":null,"finish_reason":"stop")"));
  b->Done("length", 1);
  EXPECT_THAT(client.ReadUntil("0\r\n\r\n"), HasSubstr("[DONE]"));
}

TEST_F(OpenAiTest, ChatLogprobs) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    TextDelta delta;
    delta.id = 'A';
    delta.text = "A";
    delta.logprob = -0.5F;
    delta.top = {{'A', -0.5F}, {200, -std::numeric_limits<float>::infinity()}};
    s.handlers.on_delta(std::move(delta));
    s.Done("length", 1);
  };
  Serve();
  const TestResponse r = Call("POST", kChat, ChatBody(R"(,"logprobs":true,"top_logprobs":2)"));
  EXPECT_THAT(r.body,
              HasSubstr(R"("logprobs":{"content":[{"token":"A","logprob":-0.5,"bytes":[65],"top_logprobs":[)"
                        R"({"token":"A","logprob":-0.5,"bytes":[65]},)"
                        "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-9999,\"bytes\":[195]}]}]}"));
}

TEST_F(OpenAiTest, CompletionLogprobs) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    for (const auto& [id, text] : {std::pair{'A', "\xc3\xa9"}, std::pair{'B', "B"}}) {
      TextDelta delta;
      delta.id = id;
      delta.text = text;
      delta.logprob = -1;
      delta.top = {{'C', -0.25F}};
      s.handlers.on_delta(std::move(delta));
    }
    s.Done("length", 2);
  };
  Serve();
  const TestResponse r = Call("POST", kText, R"({"prompt":"x","logprobs":1})");
  EXPECT_THAT(r.body,
              HasSubstr(R"("logprobs":{"text_offset":[0,1],"token_logprobs":[-1,-1],"tokens":["A","B"],)"
                        R"("top_logprobs":[{"C":-0.25,"A":-1},{"C":-0.25,"B":-1}]})"));
}

// The first token of a prompt has no score; 'y' was the second likeliest at its place, 'z' the ninth.
void ScoredPrompt(FakeFrontend::Submission& s) {
  std::vector<PromptToken> first(2), rest(1);
  first[0] = {.id = 'x', .text = "x"};
  first[1] = {.id = 'y', .text = "y", .rank = 2, .logprob = -1.5F, .top = {{'a', -0.25F}, {'y', -1.5F}}};
  rest[0] = {.id = 'z', .text = "z", .rank = 9, .logprob = -4, .top = {{'b', -1}, {'c', -2}}};
  s.handlers.on_prompt_tokens(std::move(first));
  s.handlers.on_prompt_tokens(std::move(rest));
  TextDelta delta;
  delta.id = 'A';
  delta.text = "A";
  delta.logprob = -3;
  delta.top = {{'C', -0.5F}};
  s.handlers.on_delta(std::move(delta));
  s.Done("length", 1);
}

TEST_F(OpenAiTest, PromptLogprobs) {
  frontend_.script = ScoredPrompt;
  Serve();
  const std::string list =
      R"("prompt_logprobs":[null,{"97":{"logprob":-0.25,"rank":1,"decoded_token":"a"},)"
      R"("121":{"logprob":-1.5,"rank":2,"decoded_token":"y"}},{"98":{"logprob":-1,"rank":1,"decoded_token":"b"},)"
      R"("99":{"logprob":-2,"rank":2,"decoded_token":"c"},"122":{"logprob":-4,"rank":9,"decoded_token":"z"}}])";
  TestResponse r = Call("POST", kText, R"({"prompt":"xyz","prompt_logprobs":2})");
  EXPECT_THAT(r.body, HasSubstr(R"("stop_reason":null,)" + list + "}],\"usage\""));
  EXPECT_EQ(frontend_.Wait(0)->input.sampling.prompt_logprobs(), 3);
  r = Call("POST", kChat, ChatBody(R"(,"prompt_logprobs":2)"));
  EXPECT_THAT(r.body, HasSubstr(R"("image_tokens":1}},)" + list + "}"));
  r = Call("POST", kText, R"({"prompt":"xyz","prompt_logprobs":0})");
  EXPECT_THAT(r.body, HasSubstr(R"([null,{"121":{"logprob":-1.5,"rank":2,"decoded_token":"y"}},)"
                                R"({"122":{"logprob":-4,"rank":9,"decoded_token":"z"}}])"));
}

TEST_F(OpenAiTest, EchoWithLogprobs) {
  frontend_.script = ScoredPrompt;
  Serve();
  const std::string logprobs =
      R"("logprobs":{"text_offset":[0,1,2,3],"token_logprobs":[null,-1.5,-4,-3],"tokens":["x","y","z","A"],)"
      R"("top_logprobs":[null,{"a":-0.25,"y":-1.5},{"b":-1,"z":-4},{"C":-0.5,"A":-3}]})";
  TestResponse r = Call("POST", kText, R"({"prompt":[120,121,122],"echo":true,"logprobs":1})");
  EXPECT_THAT(r.body, HasSubstr(R"("text":"xyzA",)" + logprobs));
  r = Call("POST", kText, R"({"prompt":"xyz","echo":true,"logprobs":1,"stream":true})");
  EXPECT_THAT(r.body, HasSubstr(R"("text":"xyzA",)" + logprobs));
}

TEST_F(OpenAiTest, ToolCalls) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    s.Token("Sure. ```types");
    s.Token("cript\nfunctions.f({\"a\":1})\n");
    s.Token("```");
    s.Done("stop", 3);
  };
  Serve();
  const std::string tools = R"(,"tools":[{"type":"function","function":{"name":"f"}}])";
  TestResponse r = Call("POST", kChat, ChatBody(tools));
  EXPECT_THAT(
      Steady(r.body),
      HasSubstr(R"("message":{"role":"assistant","content":"Sure. ","tool_calls":[{"id":"call_X_0_0","type":)"
                R"("function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"logprobs":null,)"
                R"("finish_reason":"tool_calls")"));
  r = Call("POST", kChat, ChatBody(tools + R"(,"stream":true)"));
  EXPECT_THAT(r.body, HasSubstr(R"("delta":{"role":"assistant","content":"Sure. "})"));
  EXPECT_THAT(Steady(r.body),
              HasSubstr(R"("delta":{"tool_calls":[{"index":0,"id":"call_X_0_0","type":"function",)"
                        R"("function":{"name":"f","arguments":"{\"a\":1}"}}]},)"));
  EXPECT_THAT(r.body, HasSubstr(R"("finish_reason":"tool_calls")"));
}

TEST_F(OpenAiTest, ArgumentsOfCallsAreStreamed) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    for (const char* text : {"```typescript\nfunctions.f(", "{\"a\":", "1}", ")\n```"}) s.Token(text);
    s.Done("stop", 4);
  };
  Serve();
  const TestResponse r = Call(
      "POST", kChat, ChatBody(R"(,"stream":true,"tools":[{"type":"function","function":{"name":"f"}}])"));
  std::vector<std::string> deltas;
  std::string rest = Steady(r.body);
  for (size_t at = 0; (at = rest.find("\"delta\":", at)) != std::string::npos; ++at) {
    deltas.push_back(rest.substr(at + 8, rest.find(",\"logprobs\"", at) - at - 8));
  }
  EXPECT_THAT(
      deltas,
      ::testing::ElementsAre(
          R"({"role":"assistant","content":"","tool_calls":[{"index":0,"id":"call_X_0_0","type":"function",)"
          R"("function":{"name":"f","arguments":""}}]})",
          R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]})",
          R"({"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]})", R"({"content":""})", "{}"));
  EXPECT_THAT(r.body, HasSubstr(R"("finish_reason":"tool_calls")"));
}

TEST_F(OpenAiTest, OneCallIsEnoughWhereCallsMayNotBeParallel) {
  Serve();
  TestClient client(server_->port());
  client.Send(TestClient::Request(
      "POST", kChat,
      ChatBody(R"(,"parallel_tool_calls":false,"tools":[{"type":"function","function":{"name":"f"}}])")));
  auto s = frontend_.Wait(0);
  ASSERT_NE(s, nullptr);
  EXPECT_TRUE(s->Token("```typescript\nfunctions.f("));
  EXPECT_FALSE(s->Token("{})\nfunctions.f({\"b\":1})"));
  EXPECT_FALSE(s->Token("\n``` and more"));
  s->Done("stop", 2);
  const std::string answer = client.ReadUntil("\"usage\"");
  EXPECT_THAT(answer, HasSubstr(R"("function":{"name":"f","arguments":"{}"}}]},)"));
  EXPECT_THAT(answer, HasSubstr(R"("finish_reason":"tool_calls")"));
}

TEST_F(OpenAiTest, ErrorsNameTheField) {
  Serve();
  TestResponse r = Call("POST", kChat, ChatBody(R"(,"temperature":-1)"), "x-request-id: e1\r\n");
  EXPECT_EQ(r.status, 400);
  EXPECT_EQ(r.Header("x-request-id"), "e1");
  EXPECT_EQ(r.body, R"({"error":{"message":"temperature: expected a number from 0 to 100, found -1",)"
                    R"("type":"invalid_request_error","param":"temperature","code":null}})");
  r = Call("POST", kChat, "");
  EXPECT_EQ(r.status, 400);
  r = Call("POST", kChat, R"({"model":"other","messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(r.status, 404);
  EXPECT_THAT(r.body, HasSubstr(R"("param":"model","code":"model_not_found")"));
  r = Call("POST", kChat, std::string((1 << 20) + 1, ' '));
  EXPECT_EQ(r.status, 413);
  EXPECT_EQ(Call("GET", kChat).status, 405);
  EXPECT_EQ(Call("POST", "/v1/nothing").status, 404);
  EXPECT_EQ(frontend_.submitted(), 0);
  EXPECT_THAT(Metrics(), HasSubstr("fulger_requests_rejected_total{reason=\"invalid\"} 2\n"));
  EXPECT_THAT(Metrics(), HasSubstr("fulger_requests_rejected_total{reason=\"not_found\"} 1\n"));
}

TEST_F(OpenAiTest, FrontendsRefusalsBecomeCodes) {
  Serve();
  frontend_.refuse = WithField(OutOfRange("messages: too long"), "messages");
  TestResponse r = Call("POST", kChat, ChatBody(R"(,"stream":true)"));
  EXPECT_EQ(r.status, 400);
  EXPECT_THAT(r.body, HasSubstr(R"("param":"messages","code":"context_length_exceeded")"));
  frontend_.refuse = ResourceExhausted("the queue is full");
  r = Call("POST", kChat, ChatBody());
  EXPECT_EQ(r.status, 429);
  EXPECT_EQ(r.Header("Retry-After"), "1");
  frontend_.refuse = Unavailable("stopping");
  r = Call("POST", kChat, ChatBody());
  EXPECT_EQ(r.status, 503);
  EXPECT_EQ(r.Header("Retry-After"), "1");
}

TEST_F(OpenAiTest, WhenALaterChoiceIsRefusedTheEarlierAreCancelled) {
  frontend_.refuse_after = 1;
  Serve();
  const TestResponse r = Call("POST", kText, R"({"prompt":"x","n":3})");
  EXPECT_EQ(r.status, 429);
  EXPECT_TRUE(frontend_.WaitForCancel(frontend_.Wait(0)->input.id));
  frontend_.Wait(0)->Token("late");  // harmless
  frontend_.Wait(0)->Done("cancelled", 1);
}

TEST_F(OpenAiTest, ErrorAmidAStream) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    s.Token("a");
    TextResult result;
    result.finish_reason = "error";
    result.error = Internal("layer 3 gave NaN");
    s.handlers.on_done(result);
  };
  Serve();
  const TestResponse r = Call("POST", kChat, ChatBody(R"(,"stream":true)"));
  EXPECT_THAT(r.body,
              ::testing::EndsWith(R"(data: {"error":{"message":"layer 3 gave NaN","type":"server_error",)"
                                  R"("param":null,"code":null}})"
                                  "\n\ndata: [DONE]\n\n"));
  EXPECT_EQ(Call("POST", kChat, ChatBody()).status, 500);
}

TEST_F(OpenAiTest, LeavingCancels) {
  Serve();
  for (const char* stream : {"", R"(,"stream":true)"}) {
    const size_t before = frontend_.submitted();
    auto client = std::make_unique<TestClient>(server_->port());
    client->Send(TestClient::Request("POST", kChat, ChatBody(stream)));
    auto s = frontend_.Wait(before);
    ASSERT_NE(s, nullptr);
    s->Token("a");
    client->Close();
    EXPECT_TRUE(frontend_.WaitForCancel(s->input.id));
    s->Token("b");
    s->Done("cancelled", 2);
  }
}

TEST_F(OpenAiTest, SlowReaderIsCancelledAndHoldsUpNobody) {
  Serve();
  TestClient slow(server_->port(), /*receive_buffer=*/4096);
  slow.Send(TestClient::Request("POST", kChat, ChatBody(R"(,"stream":true)")));
  auto s = frontend_.Wait(0);
  ASSERT_NE(s, nullptr);
  const std::string text(10'000, 'x');
  for (int i = 0; i < 2000; ++i) s->Token(text);  // never blocks, however much it is
  EXPECT_TRUE(frontend_.WaitForCancel(s->input.id));
  frontend_.script = [](FakeFrontend::Submission& other) {
    other.Token("fine");
    other.Done("stop", 1);
  };
  EXPECT_THAT(Call("POST", kChat, ChatBody()).body, HasSubstr("\"content\":\"fine\""));
}

TEST_F(OpenAiTest, NotReadyRefusesButStaysAlive) {
  EngineStats down;
  down.down_reason = "rank 3 is loading layer 40";
  frontend_.SetStats(down);
  Serve();
  for (const char* path : {"/health", "/health/ready"}) {
    const TestResponse r = Call("GET", path);
    EXPECT_EQ(r.status, 503);
    EXPECT_EQ(r.Header("Retry-After"), "1");
    EXPECT_THAT(r.body, HasSubstr("rank 3 is loading layer 40"));
  }
  EXPECT_EQ(Call("GET", "/health/live").status, 200);
  EXPECT_EQ(Call("POST", kChat, ChatBody()).status, 503);
  EXPECT_EQ(Call("GET", "/v1/models").status, 200);
  EngineStats up;
  up.ready = true;
  frontend_.SetStats(up);
  EXPECT_THAT(Call("GET", "/health/ready").body, HasSubstr("no step has finished yet"));
  up.seconds_since_step = 1;
  frontend_.SetStats(up);
  EXPECT_EQ(Call("GET", "/health", "", "Authorization: Bearer x\r\n").status, 200);
  EXPECT_EQ(Call("HEAD", "/health/ready").status, 200);
  up.probe_error = "layer 3 attention: not finite";
  frontend_.SetStats(up);
  EXPECT_THAT(Call("GET", "/health/ready").body, HasSubstr("a probe step failed: layer 3 attention"));
  up.probe_error.clear();
  up.seconds_since_step = 100;
  frontend_.SetStats(up);
  EXPECT_THAT(Call("GET", "/health/ready").body, HasSubstr("no step has finished for 100 s"));
}

TEST_F(OpenAiTest, FullPoolIsOverload) {
  std::promise<void> release, entered;
  auto released = release.get_future().share();
  frontend_.script = [&, released](FakeFrontend::Submission& s) {
    if (s.input.id.ends_with("-0") && frontend_.submitted() == 1) {
      entered.set_value();
      released.wait();
    }
    s.Done("stop", 0);
  };
  OpenAiOptions options;
  options.threads = 1;
  options.max_waiting = 1;
  Serve(options);
  TestClient running(server_->port()), waiting(server_->port());
  running.Send(TestClient::Request("POST", kChat, ChatBody()));
  entered.get_future().wait();
  // One more fits into the queue; of two, one is refused. Which one is the sockets' business.
  waiting.Send(TestClient::Request("POST", kChat, ChatBody()));
  TestClient third(server_->port());
  third.Send(TestClient::Request("POST", kChat, ChatBody()));
  TestClient health(server_->port());
  EXPECT_EQ(health.Call("GET", "/health").status, 200);  // while the pool is stuck
  // The refused one is answered while the pool is still stuck.
  while (Metrics().find("fulger_requests_rejected_total{reason=\"overload\"} 1\n") == std::string::npos) {
    std::this_thread::yield();
  }
  release.set_value();
  EXPECT_EQ(running.ReadResponse().status, 200);
  EXPECT_EQ(waiting.ReadResponse().status + third.ReadResponse().status, 200 + 429);
}

TEST_F(OpenAiTest, KeysGuardV1) {
  ApiKeyRing keys({"secret", "other"}, "");
  ASSERT_OK(keys.Reload());
  OpenAiOptions options;
  options.keys = &keys;
  frontend_.script = [](FakeFrontend::Submission& s) { s.Done("stop", 0); };
  Serve(options);
  for (const char* header : {"", "Authorization: Bearer wrong!\r\n", "Authorization: Bearer secre\r\n",
                             "Authorization: Bearer \r\n"}) {
    const TestResponse r = Call("POST", kChat, ChatBody(), header);
    EXPECT_EQ(r.status, 401) << header;
    EXPECT_THAT(r.body, HasSubstr("invalid_api_key"));
    EXPECT_EQ(Call("GET", "/v1/models", "", header).status, 401);
  }
  EXPECT_EQ(Call("POST", kChat, ChatBody(), "Authorization: Bearer secret\r\n").status, 200);
  EXPECT_EQ(Call("POST", kChat, ChatBody(), "Authorization: Bearer other\r\n").status, 200);
  EXPECT_EQ(Call("GET", "/health").status, 200);
  EXPECT_EQ(Call("GET", "/metrics").status, 200);
}

TEST_F(OpenAiTest, RetryAfterIsWhatTheErrorSays) {
  frontend_.refuse = WithRetryAfter(ResourceExhausted("much to do"), 17);
  Serve();
  const TestResponse r = Call("POST", kChat, ChatBody());
  EXPECT_EQ(r.status, 429);
  EXPECT_EQ(r.Header("Retry-After"), "17");
  EXPECT_EQ(r.head.find("Retry-After", r.head.find("Retry-After") + 1), std::string::npos);
}

TEST_F(OpenAiTest, DeadlinesOfServerAndClient) {
  OpenAiOptions options;
  options.request_timeout = std::chrono::seconds(100);
  frontend_.script = [](FakeFrontend::Submission& s) {
    TextResult late;
    late.finish_reason = "error";
    late.error = MakeStatus(absl::StatusCode::kDeadlineExceeded, "late");
    s.handlers.on_done(late);
  };
  Serve(options);
  const auto deadline_in = [&](size_t request) {
    const GenerateInput& input = frontend_.Wait(request)->input;
    return Seconds(input.deadline - input.arrival);
  };
  TestResponse r = Call("POST", kChat, ChatBody());
  EXPECT_EQ(r.status, 504);
  EXPECT_EQ(r.Header("x-should-retry"), "false");
  EXPECT_EQ(deadline_in(0), 100);
  Call("POST", kChat, ChatBody(), "x-request-timeout: 2.5\r\n");
  EXPECT_EQ(deadline_in(1), 2.5);
  Call("POST", kChat, ChatBody(), "x-request-timeout: 500\r\n");
  EXPECT_EQ(deadline_in(2), 100);
  for (const char* bad : {"0", "-1", "x", "1s", "nan", "inf"}) {
    r = Call("POST", kChat, ChatBody(), std::string("x-request-timeout: ") + bad + "\r\n");
    EXPECT_EQ(r.status, 400) << bad;
    EXPECT_THAT(r.body, HasSubstr(R"("param":"x-request-timeout")"));
  }
}

TEST_F(OpenAiTest, SmallEndpoints) {
  Serve();
  TestResponse r = Call("GET", "/v1/models");
  EXPECT_EQ(Steady(r.body), R"({"object":"list","data":[{"id":"tiny","object":"model","created":0,)"
                            R"("owned_by":"fulger","max_model_len":8192}]})");
  EXPECT_EQ(Steady(Call("GET", "/v1/models/tiny").body),
            R"({"id":"tiny","object":"model","created":0,"owned_by":"fulger","max_model_len":8192})");
  EXPECT_EQ(Call("GET", "/v1/models/none").status, 404);
  EXPECT_EQ(Call("GET", "/version").body, R"({"version":"1.2.3"})");
  EXPECT_EQ(Call("GET", "/v1/server_info").body, R"({"device":"cpu"})");
  EXPECT_EQ(Call("POST", "/tokenize", R"({"prompt":"ab","return_token_strs":true})").body,
            R"({"count":2,"max_model_len":8192,"tokens":[97,98],"token_strs":["a","b"]})");
  EXPECT_EQ(Call("POST", "/tokenize", R"({"messages":[{"role":"user","content":"x"}]})").body,
            R"({"count":3,"max_model_len":8192,"tokens":[1,2,3]})");
  EXPECT_EQ(Call("POST", "/detokenize", R"({"tokens":[97,98]})").body, R"({"prompt":"ab"})");
  EXPECT_THAT(Call("POST", "/detokenize", "{}").body, HasSubstr(R"("param":"tokens")"));
  r = Call("GET", "/metrics");
  EXPECT_EQ(r.Header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_THAT(r.body, HasSubstr("fulger_build_info{version=\"1.2.3\"} 1\n"));
}

TEST_F(OpenAiTest, HostileRequestIdsAreReplaced) {
  Serve();
  const TestResponse r = Call("POST", "/detokenize", R"({"tokens":[97]})", "x-request-id: a b\tc\r\n");
  EXPECT_THAT(r.Header("x-request-id"), ::testing::StartsWith("req-"));
}

}  // namespace
}  // namespace fulger
