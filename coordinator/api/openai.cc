#include "coordinator/api/openai.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "coordinator/api/ids.h"
#include "coordinator/api/openai_answer.h"
#include "coordinator/api/openai_generation.h"
#include "coordinator/api/openai_request.h"
#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

// Every request that is logged has an id.
HttpHeaders EchoHeaders(const HttpRequest& request) {
  const std::string_view id = request.RequestId();
  return {{"x-request-id", id.empty() ? NewId("req-") : std::string(id)}};
}

HttpResponse Json(std::string body, HttpHeaders headers = {}) {
  HttpResponse response;
  response.body = std::move(body);
  response.headers = std::move(headers);
  return response;
}

}  // namespace

OpenAiApi::OpenAiApi(OpenAiOptions options, Frontend* frontend, MetricRegistry* registry,
                     ServerMetrics* metrics)
    : options_(std::move(options)),
      frontend_(frontend),
      registry_(registry),
      metrics_(metrics),
      created_(std::time(nullptr)),
      pool_(options_.threads, options_.max_waiting) {}

void OpenAiApi::Register(Router* router) {
  using Request = std::shared_ptr<const HttpRequest>;
  using Responder = std::shared_ptr<HttpResponder>;
  router->Add("POST", "/v1/chat/completions", OnPool(&OpenAiApi::Chat, true));
  router->Add("POST", "/v1/completions", OnPool(&OpenAiApi::Complete, true));
  router->Add("POST", "/tokenize", OnPool(&OpenAiApi::Tokenize, false));
  router->Add("POST", "/detokenize", OnPool(&OpenAiApi::Detokenize, false));
  const auto health = [this](Request request, Responder responder) { Health(*request, responder.get()); };
  router->Add("GET", "/health", health).Add("GET", "/health/ready", health);
  router->Add("GET", "/health/live",
              [](Request, Responder responder) { responder->Send(Json(R"({"status":"live"})")); });
  router->Add("GET", "/v1/models",
              [this](Request request, Responder responder) { Models(*request, responder.get(), ""); });
  router->Add("GET", "/v1/models/*", [this](Request request, Responder responder) {
    Models(*request, responder.get(), request->path.substr(std::string_view("/v1/models/").size()));
  });
  router->Add("GET", "/version", [this](Request, Responder responder) {
    std::string body = R"({"version":)";
    AppendJsonString(&body, options_.version);
    responder->Send(Json(body + "}"));
  });
  router->Add("GET", "/metrics", [this](Request, Responder responder) {
    ExportStats(frontend_->Stats(), metrics_);
    HttpResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = registry_->Serialize();
    responder->Send(std::move(response));
  });
  router->Add("GET", "/v1/server_info", [this](Request request, Responder responder) {
    const absl::Status admitted = Admit(*request, /*needs_engine=*/false).status();
    responder->Send(admitted.ok() ? Json(options_.server_info ? options_.server_info() : "{}")
                                  : ErrorOf(admitted));
  });
}

absl::StatusOr<ClientQuota> OpenAiApi::Admit(const HttpRequest& request, bool needs_engine) const {
  ClientQuota client;
  if (options_.keys != nullptr) {
    ASSIGN_OR_RETURN(client, options_.keys->Check(request.Header("Authorization")));
  }
  if (needs_engine) RETURN_IF_ERROR(CheckReady(frontend_->Stats(), options_.stall_timeout));
  return client;
}

// The server's limit and the client's own, whichever comes first; zero: none.
absl::StatusOr<TimePoint> OpenAiApi::DeadlineOf(const HttpRequest& request, TimePoint arrival) const {
  Duration limit = options_.request_timeout;
  if (const std::string text(request.Header("x-request-timeout")); !text.empty()) {
    char* end = nullptr;
    const double seconds = std::strtod(text.c_str(), &end);
    if (*end != '\0' || !(seconds > 0 && seconds < 1e9)) {
      return FieldError("x-request-timeout", "expected seconds above 0, found \"{}\"", text);
    }
    const auto own = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    limit = limit == Duration(0) ? own : std::min(limit, own);
  }
  return limit == Duration(0) ? TimePoint{} : arrival + limit;
}

HttpHandler OpenAiApi::OnPool(Method method, bool needs_engine) {
  return [this, method, needs_engine](std::shared_ptr<const HttpRequest> request,
                                      std::shared_ptr<HttpResponder> responder) {
    Call call{.request = std::move(request),
              .responder = std::move(responder),
              .headers = {},
              .arrival = clock_.Now()};
    call.headers = EchoHeaders(*call.request);
    call.route = call.request->path;
    call.peer = call.request->peer;
    auto client = Admit(*call.request, needs_engine);
    if (!client.ok()) return Reject(call, client.status());
    call.client = *std::move(client);
    Run(method, std::move(call));
  };
}

void OpenAiApi::Run(Method method, Call call) {
  const bool queued = pool_.TryRun([this, method, call]() mutable {
    if (absl::Status status = (this->*method)(call); !status.ok()) Reject(call, status);
  });
  if (!queued) Reject(call, ResourceExhausted("too many requests at once: try again later"));
}

void OpenAiApi::Answer(const std::string& endpoint, std::string body,
                       std::shared_ptr<HttpResponder> responder) {
  auto request = std::make_shared<HttpRequest>();
  request->body = std::move(body);
  Call call{.request = std::move(request),
            .responder = std::move(responder),
            .headers = {},
            .arrival = clock_.Now()};
  call.headers = EchoHeaders(*call.request);
  call.route = endpoint;
  call.peer = "batch";
  if (const absl::Status ready = CheckReady(frontend_->Stats(), options_.stall_timeout); !ready.ok()) {
    return Reject(call, ready);
  }
  Run(endpoint == "/v1/completions" ? &OpenAiApi::Complete : &OpenAiApi::Chat, std::move(call));
}

RequestLogLine OpenAiApi::LineOf(const Call& call, int status) const {
  return {.id = call.Id(),
          .answer = {},
          .route = call.route,
          .client = call.client.name,
          .peer = call.peer,
          .status = std::to_string(status),
          .finish = {},
          .total = Seconds(clock_.Now() - call.arrival),
          .error = {}};
}

void OpenAiApi::Reject(const Call& call, const absl::Status& status) {
  metrics_->Rejected(RejectReason(status));
  HttpResponse response = ErrorOf(status);
  if (!call.handed_on) {
    RequestLogLine line = LineOf(call, response.status);
    line.error = Message(status);
    LogRequest(line);
  }
  response.headers.insert(response.headers.end(), call.headers.begin(), call.headers.end());
  call.responder->Send(std::move(response));  // does nothing where an answer was begun
}

void OpenAiApi::SendJson(const Call& call, std::string body) {
  LogRequest(LineOf(call, 200));
  call.responder->Send(Json(std::move(body), call.headers));
}

absl::Status OpenAiApi::CheckModel(const std::string& model) const {
  if (model.empty() || model == frontend_->card().id) return absl::OkStatus();
  return WithField(NotFound("there is no model \"{}\" here, only \"{}\"", model, frontend_->card().id),
                   "model");
}

absl::Status OpenAiApi::Chat(Call& call) { return Generate(call, /*chat=*/true); }
absl::Status OpenAiApi::Complete(Call& call) { return Generate(call, /*chat=*/false); }

absl::Status OpenAiApi::Generate(Call& call, bool chat) {
  const OpenAiLimits limits{.vocab = frontend_->card().vocab,
                            .max_choices = options_.max_choices,
                            .max_image_bytes = options_.max_image_bytes,
                            .max_images = options_.max_images};
  ASSIGN_OR_RETURN(OpenAiRequest parsed, chat ? ParseChatRequest(call.request->body, limits)
                                              : ParseCompletionRequest(call.request->body, limits));
  RETURN_IF_ERROR(CheckModel(parsed.model));
  if (!parsed.ignored.empty()) {  // as JSON: the names are the client's
    LogDebug("request {}: fields that mean nothing here: {}", call.Id(),
             nlohmann::json(parsed.ignored).dump());
  }
  ASSIGN_OR_RETURN(const TimePoint deadline, DeadlineOf(*call.request, call.arrival));
  for (GenerateInput& input : parsed.prompts) {
    input.client = call.client;
    input.request = call.Id();
    input.deadline = deadline;
  }
  call.request.reset();  // the body is not needed while the answer is made
  AnswerWriter writer(chat, NewId(chat ? "chatcmpl-" : "cmpl-"), frontend_->card().id, std::time(nullptr));
  auto generation = std::make_shared<OpenAiGeneration>(std::move(parsed), std::move(writer), call.headers,
                                                       frontend_, call.responder, LineOf(call, 200));
  call.handed_on = true;
  return generation->Start(call.arrival);
}

absl::Status OpenAiApi::Tokenize(Call& call) {
  const OpenAiLimits limits{.vocab = frontend_->card().vocab,
                            .max_choices = 1,
                            .max_image_bytes = options_.max_image_bytes,
                            .max_images = options_.max_images};
  ASSIGN_OR_RETURN(const TokenizeRequest parsed, ParseTokenizeRequest(call.request->body, limits));
  RETURN_IF_ERROR(CheckModel(parsed.model));
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids, frontend_->Tokenize(parsed.input));
  std::string body = fmt::format(R"({{"count":{},"max_model_len":{},"tokens":[{}])", ids.size(),
                                 frontend_->card().max_context, fmt::join(ids, ","));
  if (parsed.return_token_strings) {
    body += R"(,"token_strs":[)";
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) body.push_back(',');
      AppendJsonString(&body, frontend_->TokenText(ids[i]));
    }
    body.push_back(']');
  }
  SendJson(call, body + "}");
  return absl::OkStatus();
}

absl::Status OpenAiApi::Detokenize(Call& call) {
  const OpenAiLimits limits{.vocab = frontend_->card().vocab};
  ASSIGN_OR_RETURN(const DetokenizeRequest parsed, ParseDetokenizeRequest(call.request->body, limits));
  RETURN_IF_ERROR(CheckModel(parsed.model));
  ASSIGN_OR_RETURN(const std::string text, frontend_->Detokenize(parsed.tokens));
  std::string body = R"({"prompt":)";
  AppendJsonString(&body, text);
  SendJson(call, body + "}");
  return absl::OkStatus();
}

void OpenAiApi::Health(const HttpRequest& /*request*/, HttpResponder* responder) const {
  const absl::Status ready = CheckReady(frontend_->Stats(), options_.stall_timeout);
  responder->Send(ready.ok() ? Json(R"({"status":"ready"})") : ErrorOf(ready));
}

std::string OpenAiApi::ModelJson() const {
  std::string json = R"({"id":)";
  AppendJsonString(&json, frontend_->card().id);
  return json + fmt::format(R"(,"object":"model","created":{},"owned_by":"fulger","max_model_len":{}}})",
                            created_, frontend_->card().max_context);
}

void OpenAiApi::Models(const HttpRequest& request, HttpResponder* responder,
                       const std::string& wanted) const {
  absl::Status status = Admit(request, /*needs_engine=*/false).status();
  if (status.ok()) status = CheckModel(wanted);
  if (!status.ok()) {
    responder->Send(ErrorOf(status));
  } else if (wanted.empty()) {
    responder->Send(Json(R"({"object":"list","data":[)" + ModelJson() + "]}"));
  } else {
    responder->Send(Json(ModelJson()));
  }
}

}  // namespace fulger
