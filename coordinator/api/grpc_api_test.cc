// The gRPC service through a real channel, on a frontend that the tests play themselves.
#include "coordinator/api/grpc_api.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/client_unary_call.h>
#include <grpcpp/support/byte_buffer.h>

#include <thread>

#include "base/file.h"
#include "coordinator/api/fake_frontend.h"
#include "coordinator/api/tls_test_util.h"
#include "fulger/v1/generate.grpc.pb.h"
#include "monitoring/metrics/server_metrics.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class GrpcApiTest : public ::testing::Test {
 protected:
  void Serve(GrpcApiOptions options = {}) {
    options.address = "127.0.0.1:0";
    options.layout = "pp1 tp2";
    options.fingerprint = "abc";
    options.health_interval = std::chrono::milliseconds(5);
    auto server = GrpcApi::Start(options, &frontend_, &metrics_);
    ASSERT_OK(server.status());
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetInt("grpc.use_local_subchannel_pool", 1);  // a connection of this test's own
    channel_ = grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                         grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::Fulger::NewStub(channel_);
  }
  // Reads to the end.
  grpc::Status Generate(const v1::GenerateRequest& request, std::vector<v1::GenerateResponse>* out) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    while (reader->Read(&response)) out->push_back(response);
    return reader->Finish();
  }
  // grpc.health.v1.Health/Check by hand, as no stub of it is installed: the status in the answer (1: serving,
  // 2: not), -1 when the call failed.
  int Health() {
    grpc::ClientContext context;
    const grpc::Slice nothing;
    grpc::ByteBuffer request(&nothing, 1), response;
    const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check",
                                           grpc::internal::RpcMethod::NORMAL_RPC);
    const grpc::Status status = grpc::internal::BlockingUnaryCallImpl<grpc::ByteBuffer, grpc::ByteBuffer>(
                                    channel_.get(), method, &context, request, &response)
                                    .status();
    grpc::Slice bytes;
    if (!status.ok() || !response.DumpToSingleSlice(&bytes).ok() || bytes.size() != 2) return -1;
    return bytes.begin()[1];  // field 1, a small number
  }

  // grpc.reflection.v1alpha, by hand for the same reason: the answer to list_services, as it came.
  std::string ListServices() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    const grpc::internal::RpcMethod method("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                           grpc::internal::RpcMethod::BIDI_STREAMING);
    const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
        grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
            channel_.get(), method, &context));
    const grpc::Slice list_services("\x3a\x01*");  // field 7, a string
    const grpc::ByteBuffer request(&list_services, 1);
    grpc::ByteBuffer response;
    grpc::Slice bytes;
    EXPECT_TRUE(stream->Write(request) && stream->Read(&response) && response.DumpToSingleSlice(&bytes).ok());
    EXPECT_TRUE(stream->WritesDone());
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return {bytes.begin(), bytes.end()};
  }

  FakeFrontend frontend_;
  MetricRegistry registry_;
  ServerMetrics metrics_{&registry_, {.version = "1"}};
  std::unique_ptr<GrpcApi> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Fulger::Stub> stub_;
};

v1::GenerateRequest TextRequest(const std::string& id = "") {
  v1::GenerateRequest request;
  request.set_request_id(id);
  request.set_text("hi");
  return request;
}

TEST_F(GrpcApiTest, StreamsTokensThenUsage) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    s.Token("a", 1);
    s.Token("", 2);
    s.Token("b", 3, /*last=*/true);
    s.Done("length", 3);
  };
  Serve();
  std::vector<v1::GenerateResponse> r;
  EXPECT_TRUE(Generate(TextRequest("mine"), &r).ok());
  ASSERT_EQ(r.size(), 4);
  EXPECT_EQ(r[0].request_id(), "mine");
  EXPECT_EQ(r[0].text(), "a");
  EXPECT_THAT(r[1].ids(), ElementsAre(2));
  EXPECT_EQ(r[2].text(), "b");
  EXPECT_EQ(r[2].finish_reason(), "");
  EXPECT_EQ(r[3].finish_reason(), "length");
  EXPECT_EQ(r[3].usage().prompt_tokens(), 5);
  EXPECT_EQ(r[3].usage().completion_tokens(), 3);
  EXPECT_EQ(r[3].usage().cached_tokens(), 2);
}

TEST_F(GrpcApiTest, ReflectionNamesTheServices) {
  Serve();
  const std::string answer = ListServices();
  for (const std::string name : {"fulger.v1.Fulger", "grpc.health.v1.Health"}) {
    // The name field of one service: tag, length, text.
    EXPECT_THAT(answer, HasSubstr("\n" + std::string(1, static_cast<char>(name.size())) + name));
  }
}

TEST_F(GrpcApiTest, TheRequestArrivesWhole) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    TextDelta delta;
    delta.id = 4;
    delta.logprob = -1;
    delta.top = {{9, -0.5F}};
    s.handlers.on_delta(std::move(delta));
    s.Done("stop", 1);
  };
  Serve();
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->add_content()->set_text("what is");
  message->add_content()->set_image("PNG bytes");
  const std::string tool =
      R"({"type":"function","function":{"name":"weather","parameters":{"type":"object"}}})";
  request.mutable_chat()->add_tools(tool);
  v1::ToolCall* earlier = request.mutable_chat()->add_messages()->add_tool_calls();
  earlier->set_id("call_1");
  earlier->set_name("weather");
  earlier->set_arguments("{}");
  request.mutable_sampling()->set_temperature(0.5F);
  request.mutable_sampling()->set_seed(7);
  request.mutable_sampling()->set_logprobs(1);
  request.set_has_seed(true);
  request.set_ignore_eos(true);
  request.add_stop("END");
  request.set_include_stop_str_in_output(true);
  request.set_priority(-3);
  request.set_truncate_prompt_tokens(100);
  std::vector<v1::GenerateResponse> r;
  EXPECT_TRUE(Generate(request, &r).ok());
  const GenerateInput& in = frontend_.Wait(0)->input;
  ASSERT_EQ(in.messages.size(), 2);
  EXPECT_EQ(in.messages[0].role, "user");
  EXPECT_EQ(in.messages[0].parts[1].kind, PromptPart::Kind::kImage);
  EXPECT_EQ(in.messages[0].parts[1].image, "PNG bytes");
  EXPECT_THAT(in.tools, ElementsAre(tool));
  EXPECT_FALSE(in.form.has_value());
  ASSERT_EQ(in.messages[1].tool_calls.size(), 1);
  EXPECT_EQ(in.messages[1].tool_calls[0].name, "weather");
  EXPECT_EQ(in.sampling.temperature(), 0.5F);
  EXPECT_EQ(in.seed, 7U);
  EXPECT_TRUE(in.ignore_eos);
  EXPECT_THAT(in.stop, ElementsAre("END"));
  EXPECT_TRUE(in.include_stop);
  EXPECT_EQ(in.priority, -3);
  EXPECT_EQ(in.truncate_prompt, 100);
  EXPECT_FALSE(in.id.empty());
  EXPECT_FALSE(in.text.has_value() || in.ids.has_value());
  ASSERT_EQ(r[0].logprobs_size(), 2);
  EXPECT_EQ(r[0].logprobs(0).id(), 4);
  EXPECT_EQ(r[0].logprobs(1).logprob(), -0.5F);
}

v1::GenerateRequest ToolRequest(const std::string& choice) {
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->add_content()->set_text("weather?");
  for (const char* name : {"weather", "stop"}) {
    request.mutable_chat()->add_tools(fmt::format(
        R"({{"type":"function","function":{{"name":"{}","strict":true,"parameters":{{"type":"object"}}}}}})",
        name));
  }
  request.mutable_form()->set_tool_choice(choice);
  return request;
}

TEST_F(GrpcApiTest, AnswersMayHaveToFollowAForm) {
  frontend_.script = [](FakeFrontend::Submission& s) { s.Done("stop", 1); };
  Serve();
  std::vector<v1::GenerateResponse> r;
  const auto form_of = [&](const v1::GenerateRequest& request, size_t number) {
    const grpc::Status status = Generate(request, &r);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return frontend_.Wait(number)->input.form.value_or(AnswerForm{});
  };
  v1::GenerateRequest request = TextRequest();
  request.mutable_form()->set_json_object(true);
  EXPECT_EQ(form_of(request, 0).kind, AnswerForm::Kind::kJsonObject);
  request.mutable_form()->set_json_schema(R"({"properties":{"z":{},"a":{}}})");
  AnswerForm form = form_of(request, 1);
  EXPECT_EQ(form.kind, AnswerForm::Kind::kJsonSchema);
  EXPECT_EQ(form.schema, R"({"properties":{"z":{},"a":{}}})");  // in its order
  form = form_of(ToolRequest("stop"), 2);
  EXPECT_EQ(form.kind, AnswerForm::Kind::kToolCalls);
  ASSERT_EQ(form.tools.size(), 1u);
  EXPECT_EQ(form.tools[0].name, "stop");
  form = form_of(ToolRequest("required"), 3);
  EXPECT_EQ(form.tools.size(), 2u);
  EXPECT_FALSE(form.text);
  form = form_of(ToolRequest(""), 4);  // auto, but the tools are strict
  EXPECT_TRUE(form.text);
  EXPECT_TRUE(Generate(ToolRequest("none"), &r).ok());
  EXPECT_FALSE(frontend_.Wait(5)->input.form.has_value());
  EXPECT_TRUE(frontend_.Wait(5)->input.tools.empty());
}

TEST_F(GrpcApiTest, BadFormsNameTheField) {
  Serve();
  std::vector<v1::GenerateResponse> r;
  const auto refused = [&](const v1::GenerateRequest& request, const std::string& words) {
    const grpc::Status status = Generate(request, &r);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr(words));
  };
  v1::GenerateRequest request = TextRequest();
  request.mutable_form()->set_json_schema("{");
  refused(request, "response_format.json_schema.schema: ");
  request = ToolRequest("run");
  refused(request, "tool_choice.function.name: there is no tool \"run\"");
  request.mutable_chat()->set_tools(1, R"({"type":"function"})");
  refused(request, "tools[1].function: missing");
  request.mutable_chat()->set_tools(1, "[]");
  refused(request, "tools[1]: ");
  request = TextRequest();
  request.mutable_form()->set_tool_choice("required");
  refused(request, "tool_choice: there are no tools");
}

TEST_F(GrpcApiTest, CallsOfToolsAreNoText) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    for (const char* piece :
         {"Well. ", "```typescript\nfunc", "tions.weather({\"city\":", " \"Cluj\"})\n```"}) {
      s.Token(piece);
    }
    s.Done("stop", 4);
  };
  Serve();
  std::vector<v1::GenerateResponse> r;
  ASSERT_TRUE(Generate(ToolRequest(""), &r).ok());
  std::string text, name, arguments, id;
  for (const v1::GenerateResponse& response : r) {
    text += response.text();
    for (const v1::ToolCall& call : response.tool_calls()) {
      EXPECT_EQ(call.index(), 0);
      name += call.name();
      id += call.id();
      arguments += call.arguments();
    }
  }
  EXPECT_EQ(text, "Well. ");
  EXPECT_EQ(name, "weather");
  EXPECT_EQ(arguments, "{\"city\": \"Cluj\"}");
  EXPECT_TRUE(id.starts_with("call_"));
  EXPECT_EQ(r.back().finish_reason(), "tool_calls");
}

TEST_F(GrpcApiTest, ASingleCallEndsTheAnswer) {
  Serve();
  v1::GenerateRequest request = ToolRequest("required");
  request.mutable_form()->set_single_call(true);
  std::vector<v1::GenerateResponse> r;
  grpc::Status status;
  std::thread client([&] { status = Generate(request, &r); });
  auto s = frontend_.Wait(0);
  EXPECT_FALSE(s->Token("```typescript\nfunctions.stop({})\n"));
  EXPECT_FALSE(s->Token("functions.weather({})\n```"));
  s->Done("stop", 2);
  client.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(r[0].tool_calls_size(), 1);
  EXPECT_EQ(r[0].tool_calls(0).name(), "stop");
  EXPECT_EQ(r.back().finish_reason(), "tool_calls");
  EXPECT_EQ(r.size(), 2u);
}

TEST_F(GrpcApiTest, RefusalsKeepTheirCodes) {
  Serve();
  std::vector<v1::GenerateResponse> r;
  frontend_.refuse = FieldError("max_tokens", "expected more than 0, found -1");
  grpc::Status status = Generate(TextRequest(), &r);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "max_tokens: expected more than 0, found -1");
  frontend_.refuse = ResourceExhausted("the queue is full");
  EXPECT_EQ(Generate(TextRequest(), &r).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EngineStats down;
  down.down_reason = "loading";
  frontend_.SetStats(down);
  status = Generate(TextRequest(), &r);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("loading"));
  EXPECT_TRUE(r.empty());
  EXPECT_THAT(registry_.Serialize(), HasSubstr("fulger_requests_rejected_total{reason=\"overload\"} 1\n"));
}

TEST_F(GrpcApiTest, NumbersOutOfRangeNameTheField) {
  Serve();
  std::vector<v1::GenerateResponse> r;
  v1::GenerateRequest request = TextRequest();
  request.set_truncate_prompt_tokens(-1);
  grpc::Status status = Generate(request, &r);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("truncate_prompt_tokens: expected a number above 0"));
  request = TextRequest();
  request.set_priority(1'000'001);
  status = Generate(request, &r);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("priority: expected -1000000 to 1000000, found 1000001"));
}

TEST_F(GrpcApiTest, ErrorAfterTokens) {
  frontend_.script = [](FakeFrontend::Submission& s) {
    s.Token("a");
    TextResult result;
    result.finish_reason = "error";
    result.error = Internal("layer 3 gave NaN");
    s.handlers.on_done(result);
  };
  Serve();
  std::vector<v1::GenerateResponse> r;
  const grpc::Status status = Generate(TextRequest(), &r);
  EXPECT_EQ(r.size(), 1);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "layer 3 gave NaN");
}

TEST_F(GrpcApiTest, LeavingCancels) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, TextRequest("leaver"));
  auto s = frontend_.Wait(0);
  ASSERT_NE(s, nullptr);
  s->Token("a");
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  context.TryCancel();
  EXPECT_TRUE(frontend_.WaitForCancel("leaver"));
  s->Token("b");  // late, and harmless
  s->Done("cancelled", 2);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(GrpcApiTest, SlowReaderIsCutOff) {
  GrpcApiOptions options;
  options.max_unsent_tokens = 100;
  Serve(options);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, TextRequest("slow"));
  auto s = frontend_.Wait(0);
  ASSERT_NE(s, nullptr);
  const std::string text(100'000, 'x');
  for (int i = 0; i < 2000; ++i) s->Token(text);  // never blocks; flow control stops the writes
  EXPECT_TRUE(frontend_.WaitForCancel("slow"));
  s->Done("cancelled", 1);
}

TEST_F(GrpcApiTest, CancelAndGetModel) {
  Serve();
  grpc::ClientContext a, b;
  v1::CancelRequest cancel;
  cancel.set_request_id("r9");
  v1::CancelResponse cancelled;
  EXPECT_TRUE(stub_->Cancel(&a, cancel, &cancelled).ok());
  EXPECT_TRUE(cancelled.found());
  EXPECT_TRUE(frontend_.WaitForCancel("r9"));
  v1::GetModelResponse model;
  EXPECT_TRUE(stub_->GetModel(&b, {}, &model).ok());
  EXPECT_EQ(model.id(), "tiny");
  EXPECT_EQ(model.max_context(), 8192);
  EXPECT_EQ(model.layout(), "pp1 tp2");
  EXPECT_EQ(model.fingerprint(), "abc");
}

TEST_F(GrpcApiTest, KeysGuardEverything) {
  ApiKeyRing keys({"secret"}, "");
  ASSERT_OK(keys.Reload());
  GrpcApiOptions options;
  options.keys = &keys;
  Serve(options);
  std::vector<v1::GenerateResponse> r;
  EXPECT_EQ(Generate(TextRequest(), &r).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  v1::GetModelResponse model;
  grpc::ClientContext without, with;
  EXPECT_EQ(stub_->GetModel(&without, {}, &model).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  with.AddMetadata("authorization", "Bearer secret");
  EXPECT_TRUE(stub_->GetModel(&with, {}, &model).ok());
}

TEST_F(GrpcApiTest, Tls) {
  const std::string dir = testing::TempDir();
  ASSERT_TRUE(WriteCertificate(dir, "fulger.test"));
  GrpcApiOptions options;
  options.tls_certificate = dir + "/cert.pem";
  options.tls_key = dir + "/key.pem";
  Serve(options);
  v1::GetModelResponse model;
  grpc::ClientContext plain;
  plain.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  EXPECT_FALSE(stub_->GetModel(&plain, {}, &model).ok());
  ASSERT_OK_AND_ASSIGN(const std::string certificate, ReadFile(options.tls_certificate));
  grpc::SslCredentialsOptions trust;
  trust.pem_root_certs = certificate;
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("fulger.test");
  auto stub = v1::Fulger::NewStub(grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                                            grpc::SslCredentials(trust), arguments));
  grpc::ClientContext secure;
  const grpc::Status status = stub->GetModel(&secure, {}, &model);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(model.id(), "tiny");
}

TEST_F(GrpcApiTest, RefusalsSayWhenToComeAgain) {
  frontend_.refuse = WithRetryAfter(ResourceExhausted("much to do"), 3);
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, TextRequest());
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, trailers.end());
  EXPECT_EQ(pushback->second, "3000");
}

TEST_F(GrpcApiTest, HealthFollowsReadiness) {
  Serve();
  EXPECT_EQ(Health(), 1);
  EngineStats down;
  frontend_.SetStats(down);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (Health() == 1 && std::chrono::steady_clock::now() < deadline) {
  }
  EXPECT_EQ(Health(), 2);
}

TEST_F(GrpcApiTest, PortInUse) {
  Serve();
  GrpcApiOptions options;
  options.address = "127.0.0.1:" + std::to_string(server_->port());
  EXPECT_THAT(GrpcApi::Start(options, &frontend_, &metrics_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cannot listen")));
}

TEST_F(GrpcApiTest, StopEndsRunningCalls) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, TextRequest("long"));
  auto s = frontend_.Wait(0);
  ASSERT_NE(s, nullptr);
  server_->Stop(std::chrono::milliseconds(1));
  EXPECT_FALSE(reader->Finish().ok());
  EXPECT_TRUE(frontend_.WaitForCancel("long"));
  server_.reset();
  s->Token("late");  // the engine may still hold the request
  s->Done("cancelled", 1);
}

}  // namespace
}  // namespace fulger
