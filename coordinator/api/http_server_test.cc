#include "coordinator/api/http_server.h"

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "coordinator/api/http_test_client.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

// A handler's responder, handed to the test's thread.
struct Caught {
  std::promise<std::shared_ptr<HttpResponder>> responder;
  std::promise<void> gone;
  std::shared_ptr<HttpResponder> Get() { return responder.get_future().get(); }
};

HttpHandler Echo() {
  return [](std::shared_ptr<const HttpRequest> request, std::shared_ptr<HttpResponder> responder) {
    HttpResponse response;
    response.content_type = "text/plain";
    response.body = request->method + " " + request->path + " [" + request->query + "] " + request->body;
    responder->Send(std::move(response));
  };
}

HttpHandler Catch(Caught* caught) {
  return [caught](std::shared_ptr<const HttpRequest> /*request*/, std::shared_ptr<HttpResponder> responder) {
    responder->OnGone([caught] { caught->gone.set_value(); });
    caught->responder.set_value(std::move(responder));
  };
}

std::unique_ptr<HttpServer> Serve(Router router, HttpServerOptions options = {}) {
  options.port = 0;
  auto server = HttpServer::Start(options, std::move(router));
  EXPECT_OK(server.status());
  return server.ok() ? *std::move(server) : nullptr;
}

Router EchoRouter() {
  Router router;
  router.Add("GET", "/echo", Echo()).Add("POST", "/echo", Echo()).Add("GET", "/files/*", Echo());
  return router;
}

TEST(HttpServer, AnswersAndKeepsTheConnection) {
  auto server = Serve(EchoRouter());
  TestClient client(server->port());
  TestResponse r = client.Call("GET", "/echo?a=1");
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.body, "GET /echo [a=1] ");
  EXPECT_EQ(r.Header("Connection"), "keep-alive");
  r = client.Call("POST", "/echo", "hello");
  EXPECT_EQ(r.body, "POST /echo [] hello");
  r = client.Call("GET", "/files/a/b");
  EXPECT_EQ(r.body, "GET /files/a/b [] ");
}

TEST(HttpServer, HeadHasNoBodyAndOptionsLists) {
  auto server = Serve(EchoRouter());
  TestClient client(server->port());
  TestResponse r = client.Call("HEAD", "/echo");
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.Header("Content-Length"), "14");  // "HEAD /echo [] "
  r = client.Call("OPTIONS", "/echo");          // comes next: no body bytes were left over
  EXPECT_EQ(r.status, 204);
  EXPECT_EQ(r.Header("Allow"), "OPTIONS, GET, HEAD, POST");
}

TEST(HttpServer, UnknownPathAndMethod) {
  auto server = Serve(EchoRouter());
  TestClient client(server->port());
  TestResponse r = client.Call("GET", "/nope");
  EXPECT_EQ(r.status, 404);
  EXPECT_EQ(
      r.body,
      R"({"error":{"message":"there is no /nope here","type":"not_found_error","param":null,"code":null}})");
  r = client.Call("DELETE", "/echo");
  EXPECT_EQ(r.status, 405);
  EXPECT_EQ(r.Header("Allow"), "OPTIONS, GET, HEAD, POST");
}

TEST(HttpServer, PipelinedRequestsAreAnsweredInOrder) {
  auto server = Serve(EchoRouter());
  TestClient client(server->port());
  std::string all;
  for (int i = 0; i < 20; ++i) all += TestClient::Request("POST", "/echo", std::to_string(i));
  client.Send(all);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.ReadResponse().body, "POST /echo [] " + std::to_string(i));
}

TEST(HttpServer, PipelinedBehindASlowAnswer) {
  Caught caught;
  Router router = EchoRouter();
  router.Add("GET", "/wait", Catch(&caught));
  auto server = Serve(std::move(router));
  TestClient client(server->port());
  client.Send(TestClient::Request("GET", "/wait", ""));
  auto responder = caught.Get();
  client.Send(TestClient::Request("POST", "/echo", "next"));
  responder->Send({.status = 200, .content_type = "text/plain", .body = "done", .headers = {}});
  EXPECT_EQ(client.ReadResponse().body, "done");
  EXPECT_EQ(client.ReadResponse().body, "POST /echo [] next");
}

TEST(HttpServer, ChunkedBodyAndHttp10) {
  auto server = Serve(EchoRouter());
  TestClient client(server->port());
  client.Send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().body, "POST /echo [] abcde");
  TestClient old(server->port());
  old.Send("GET /echo HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.ReadResponse().body, "GET /echo [] ");
  EXPECT_TRUE(old.AtEnd());
}

TEST(HttpServer, ExpectContinue) {
  auto server = Serve(EchoRouter());
  TestClient client(server->port());
  client.Send("POST /echo HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().status, 100);
  client.Send("abc");
  EXPECT_EQ(client.ReadResponse().body, "POST /echo [] abc");
}

TEST(HttpServer, BodyTooLarge) {
  auto server = Serve(EchoRouter(), {.max_body_bytes = 1000});
  TestClient client(server->port());
  // The client sends everything before it reads: the answer must survive that.
  client.Send(TestClient::Request("POST", "/echo", std::string(3'000'000, 'x')));
  const TestResponse r = client.ReadResponse();
  EXPECT_EQ(r.status, 413);
  EXPECT_THAT(r.body, HasSubstr("larger than 1000 bytes"));
  TestClient chunked(server->port());
  chunked.Send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n" + std::string(0x800, 'x'));
  EXPECT_EQ(chunked.ReadResponse().status, 413);
  TestClient exact(server->port());
  EXPECT_EQ(exact.Call("POST", "/echo", std::string(1000, 'x')).status, 200);
}

TEST(HttpServer, AllBodiesTogetherAreBounded) {
  Caught caught;
  Router router = EchoRouter();
  std::shared_ptr<const HttpRequest> kept;
  std::promise<std::shared_ptr<HttpResponder>> holder;
  router.Add("POST", "/hold", [&](std::shared_ptr<const HttpRequest> request, auto responder) {
    kept = std::move(request);
    holder.set_value(std::move(responder));
  });
  auto server = Serve(std::move(router), {.max_bodies_bytes = 1500});
  TestClient first(server->port());
  first.Send(TestClient::Request("POST", "/hold", std::string(1000, 'x')));
  auto responder = holder.get_future().get();
  TestClient second(server->port());
  TestResponse r = second.Call("POST", "/echo", std::string(1000, 'x'));
  EXPECT_EQ(r.status, 503);
  EXPECT_EQ(r.Header("Retry-After"), "1");
  kept.reset();  // the request is gone, and its bytes with it
  responder->Send({});
  TestClient third(server->port());
  EXPECT_EQ(third.Call("POST", "/echo", std::string(1000, 'x')).status, 200);
}

TEST(HttpServer, HeadersTooLargeAndGarbage) {
  auto server = Serve(EchoRouter(), {.max_header_bytes = 2048});
  TestClient client(server->port());
  client.Send("GET /echo HTTP/1.1\r\nX: " + std::string(4000, 'y') + "\r\n\r\n");
  EXPECT_EQ(client.ReadResponse().status, 431);
  TestClient garbage(server->port());
  garbage.Send("\x16\x03\x01 this is not http\r\n\r\n");
  EXPECT_EQ(garbage.ReadResponse().status, 400);
  EXPECT_TRUE(garbage.AtEnd());
}

TEST(HttpServer, SlowHeadersAndBodiesTimeOut) {
  auto server = Serve(EchoRouter(), {.idle_timeout = milliseconds(60),
                                     .header_timeout = milliseconds(60),
                                     .body_timeout = milliseconds(60)});
  TestClient header(server->port());
  header.Send("GET /echo HTT");
  EXPECT_EQ(header.ReadResponse().status, 408);
  TestClient body(server->port());
  body.Send("POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(body.ReadResponse().status, 408);
  TestClient idle(server->port());
  EXPECT_TRUE(idle.AtEnd());
}

TEST(HttpServer, StreamsChunks) {
  Caught caught;
  Router router;
  router.Add("GET", "/stream", Catch(&caught));
  auto server = Serve(std::move(router));
  TestClient client(server->port());
  client.Send(TestClient::Request("GET", "/stream", ""));
  auto responder = caught.Get();
  responder->Begin(200, "text/event-stream", {{"Cache-Control", "no-cache"}});
  const std::string head = client.ReadUntil("\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream\r\n"));
  EXPECT_THAT(head, HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_THAT(head, HasSubstr("Cache-Control: no-cache\r\n"));
  bool complete = false;
  EXPECT_TRUE(responder->Write("data: 1\n\n"));
  EXPECT_EQ(client.ReadChunk(&complete), "data: 1\n\n");  // arrives before the next is written
  EXPECT_TRUE(responder->Write("data: 2\n\n"));
  responder->End();
  EXPECT_EQ(client.ReadChunk(&complete), "data: 2\n\n");
  EXPECT_EQ(client.ReadChunk(&complete), "");
  EXPECT_TRUE(complete);
}

TEST(HttpServer, NoticesTheClientLeaving) {
  Caught before, amid;
  Router router;
  router.Add("GET", "/before", Catch(&before)).Add("GET", "/amid", Catch(&amid));
  auto server = Serve(std::move(router));
  auto client = std::make_unique<TestClient>(server->port());
  client->Send(TestClient::Request("GET", "/before", ""));
  auto responder = before.Get();
  client->Close();
  ASSERT_EQ(before.gone.get_future().wait_for(seconds(10)), std::future_status::ready);
  responder->Send({});  // too late, and harmless

  client = std::make_unique<TestClient>(server->port());
  client->Send(TestClient::Request("GET", "/amid", ""));
  responder = amid.Get();
  responder->Begin(200, "text/event-stream", {});
  responder->Write("data: 1\n\n");
  client->ReadUntil("data: 1");
  client->Close();
  ASSERT_EQ(amid.gone.get_future().wait_for(seconds(10)), std::future_status::ready);
  EXPECT_FALSE(responder->Write("data: 2\n\n"));
}

// The end of its input may be seen while the answer is on its way; nothing would tell of it again.
TEST(HttpServer, AClientThatHasSentAllItWillIsAnsweredAndLet) {
  auto server = Serve(EchoRouter());
  for (int i = 0; i < 200; ++i) {
    TestClient client(server->port());
    client.Send(TestClient::Request("GET", "/echo", ""));
    client.FinishSending();
    ASSERT_TRUE(client.ReadToEnd().ends_with("GET /echo [] ")) << "round " << i;
  }
}

TEST(HttpServer, SlowReaderIsCutOffAndHoldsUpNobody) {
  Caught caught;
  Router router = EchoRouter();
  router.Add("GET", "/stream", Catch(&caught));
  auto server = Serve(std::move(router), {.threads = 1, .max_unsent_bytes = 100'000});
  TestClient slow(server->port(), /*receive_buffer=*/4096);
  slow.Send(TestClient::Request("GET", "/stream", ""));
  auto responder = caught.Get();
  responder->Begin(200, "text/event-stream", {});
  // What the kernel takes is unknown but bounded; Write never blocks and says no in the end.
  const std::string data(8192, 'x');
  int64_t written = 0;
  while (responder->Write(data) && written < (int64_t{1} << 30)) written += 8192;
  EXPECT_LT(written, int64_t{1} << 30);
  EXPECT_EQ(caught.gone.get_future().wait_for(seconds(10)), std::future_status::ready);
  TestClient other(server->port());
  EXPECT_EQ(other.Call("GET", "/echo").status, 200);
}

TEST(HttpServer, WhatComesAtOnceMakesNobodySlow) {
  Caught caught;
  Router router;
  router.Add("GET", "/stream", Catch(&caught));
  auto server = Serve(std::move(router), {.threads = 1, .max_unsent_bytes = 100'000});
  TestClient client(server->port());
  client.Send(TestClient::Request("GET", "/stream", ""));
  auto responder = caught.Get();
  responder->Begin(200, "text/event-stream", {});
  const std::string data(8192, 'x');
  constexpr size_t kPieces = 4000;  // more than the kernel takes
  for (size_t i = 0; i < kPieces; ++i) {
    responder->AllowBehind(data.size() + 16);
    ASSERT_TRUE(responder->Write(data)) << i;
  }
  responder->End();
  const TestResponse response = client.ReadResponse();
  EXPECT_TRUE(response.complete);
  EXPECT_EQ(response.body.size(), kPieces * data.size());
}

TEST(HttpServer, ForgottenAnswersAre500) {
  Router router;
  router.Add("GET", "/forget", [](auto, auto) {});
  router.Add("GET", "/half", [](auto, auto responder) {
    responder->Begin(200, "text/plain", {});
    responder->Write("half");
  });
  router.Add("GET", "/throw", [](auto, auto) { throw std::runtime_error("no"); });
  auto server = Serve(std::move(router));
  TestClient client(server->port());
  EXPECT_EQ(client.Call("GET", "/forget").status, 500);
  EXPECT_EQ(client.Call("GET", "/throw").status, 500);
  const TestResponse half = client.Call("GET", "/half");
  EXPECT_FALSE(half.complete);
}

TEST(HttpServer, HeaderValuesCannotSplitTheAnswer) {
  Router router;
  router.Add("GET", "/", [](auto, auto responder) {
    responder->Send({.status = 200,
                     .content_type = "text/plain",
                     .body = "x",
                     .headers = {{"X-Good", "1"}, {"X-Bad", "a\r\nX-Evil: 1"}}});
  });
  auto server = Serve(std::move(router));
  TestClient client(server->port());
  const TestResponse r = client.Call("GET", "/");
  EXPECT_EQ(r.Header("X-Good"), "1");
  EXPECT_EQ(r.Header("X-Evil"), "");
}

TEST(HttpServer, AddressErrorsAreClear) {
  auto server = Serve(EchoRouter());
  HttpServerOptions options;
  options.port = server->port();
  EXPECT_THAT(HttpServer::Start(options, {}).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is in use")));
  options.port = 0;
  options.address = "nowhere";
  EXPECT_THAT(HttpServer::Start(options, {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not an IP address")));
  options.address = "203.0.113.7";
  EXPECT_THAT(HttpServer::Start(options, {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("203.0.113.7")));
}

TEST(HttpServer, TooManyConnections) {
  Caught caught;
  Router router = EchoRouter();
  router.Add("GET", "/wait", Catch(&caught));
  auto server = Serve(std::move(router), {.max_connections = 1});
  TestClient first(server->port());
  EXPECT_EQ(first.Call("GET", "/echo").status, 200);
  // The first is idle and makes room, as soon as the server has seen its answer written: until then others
  // are refused.
  auto caught_one = caught.responder.get_future();
  std::optional<TestClient> second;
  for (int tries = 0; tries < 1000 && caught_one.wait_for(milliseconds(10)) != std::future_status::ready;
       ++tries) {
    if (second.has_value() && !second->AtEnd(milliseconds(1))) continue;
    second.emplace(server->port());
    second->Send(TestClient::Request("GET", "/wait", ""));
  }
  ASSERT_EQ(caught_one.wait_for(seconds(0)), std::future_status::ready);
  auto responder = caught_one.get();
  EXPECT_TRUE(first.AtEnd());
  // The second is not.
  TestClient third(server->port());
  EXPECT_TRUE(third.AtEnd());
  responder->Send({.status = 200, .content_type = "text/plain", .body = "done", .headers = {}});
  EXPECT_EQ(second->ReadResponse().body, "done");
}

TEST(HttpServer, ConnectionsThatWereOpenedAndLeftKeepNobodyOut) {
  auto server = Serve(EchoRouter(), {.max_connections = 100});
  std::vector<std::unique_ptr<TestClient>> left;
  for (int i = 0; i < 400; ++i) {
    left.push_back(std::make_unique<TestClient>(server->port()));
    if (i % 20 == 0) {
      EXPECT_EQ(TestClient(server->port()).Call("GET", "/echo").status, 200) << i;
    }
  }
}

TEST(HttpServer, StopWaitsForAnswersUnderWay) {
  Caught caught;
  Router router;
  router.Add("GET", "/wait", Catch(&caught));
  auto server = Serve(std::move(router));
  TestClient idle(server->port());
  TestClient busy(server->port());
  busy.Send(TestClient::Request("GET", "/wait", ""));
  auto responder = caught.Get();
  std::thread stopper([&] { server->Stop(seconds(20)); });
  EXPECT_TRUE(idle.AtEnd());
  responder->Send({.status = 200, .content_type = "text/plain", .body = "done", .headers = {}});
  EXPECT_EQ(busy.ReadResponse().body, "done");
  stopper.join();
  EXPECT_EQ(server->connections(), 0);
  EXPECT_FALSE(TestClient(server->port()).connected());
}

TEST(HttpServer, StopCutsOffWhatOutlastsTheGrace) {
  Caught caught;
  Router router;
  router.Add("GET", "/wait", Catch(&caught));
  auto server = Serve(std::move(router));
  TestClient busy(server->port());
  busy.Send(TestClient::Request("GET", "/wait", ""));
  auto responder = caught.Get();
  server->Stop(milliseconds(1));
  EXPECT_EQ(caught.gone.get_future().wait_for(seconds(0)), std::future_status::ready);
  EXPECT_TRUE(busy.AtEnd());
  server.reset();
  responder->Send({});  // a responder may outlive the server
}

TEST(HttpServer, ManyClientsAtOnce) {
  std::atomic<int> answers = 0;
  auto server = Serve(EchoRouter(), {.threads = 2, .on_answer = [&](const std::string& route, int status) {
                                       answers += route == "/echo" && status == 200;
                                     }});
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      TestClient client(server->port());
      for (int i = 0; i < 100; ++i) good += client.Call("POST", "/echo", "x").body == "POST /echo [] x";
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(good, 800);
  server->Stop(seconds(5));
  EXPECT_EQ(answers, 800);
}

TEST(Json, StringsAreEscapedAndRepaired) {
  std::string out;
  AppendJsonString(&out, "a\"b\\c\n\x01\xc3\xa9\xff\xed\xa0\x80z");
  EXPECT_EQ(out, "\"a\\\"b\\\\c\\n\\u0001\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
}

}  // namespace
}  // namespace fulger
