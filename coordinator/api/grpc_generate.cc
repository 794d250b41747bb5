#include "coordinator/api/grpc_generate.h"

#include <chrono>
#include <random>
#include <utility>

#include "base/log.h"
#include "coordinator/api/grpc_form.h"
#include "coordinator/api/ids.h"
#include "coordinator/api/openai_answer.h"
#include "coordinator/api/request_log.h"
#include "coordinator/frontend/field_error.h"
#include "monitoring/metrics/server_metrics.h"

namespace fulger {
namespace {

std::string IdOf(const v1::GenerateRequest& request) {
  if (!request.request_id().empty()) return request.request_id();
  thread_local std::mt19937_64 random{std::random_device{}() ^
                                      (static_cast<uint64_t>(std::random_device{}()) << 32)};
  return fmt::format("grpc-{:016x}{:016x}", random(), random());
}

std::string NameOf(grpc::StatusCode code) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

GenerateInput ToInput(const v1::GenerateRequest& request, const std::string& id, TimePoint arrival,
                      const ClientQuota& client) {
  GenerateInput input;
  input.client = client;
  input.id = id;
  input.request = id;
  input.arrival = arrival;
  for (const v1::ChatMessage& message : request.chat().messages()) {
    PromptMessage& out = input.messages.emplace_back();
    out.role = message.role();
    out.name = message.name();
    for (const v1::ToolCall& call : message.tool_calls()) {
      out.tool_calls.push_back({.id = call.id(), .name = call.name(), .arguments = call.arguments()});
    }
    for (const v1::ContentPart& part : message.content()) {
      const bool image = part.has_image();
      out.parts.push_back({.kind = image ? PromptPart::Kind::kImage : PromptPart::Kind::kText,
                           .text = part.text(),
                           .image = part.image()});
    }
  }
  if (request.has_text()) input.text = request.text();
  if (request.has_tokens()) input.ids.emplace(request.tokens().ids().begin(), request.tokens().ids().end());
  input.sampling = request.sampling();
  if (!request.has_sampling()) input.sampling.set_logprobs(-1);
  if (request.has_seed()) input.seed = request.sampling().seed();
  input.ignore_eos = request.ignore_eos();
  input.stop.assign(request.stop().begin(), request.stop().end());
  input.include_stop = request.include_stop_str_in_output();
  input.priority = request.priority();
  input.truncate_prompt = request.truncate_prompt_tokens();
  return input;
}

// What the HTTP API's reader would have refused.
absl::Status CheckRanges(const GenerateInput& input) {
  if (input.priority < -kMaxPriority || input.priority > kMaxPriority)
    return FieldError("priority", "expected {} to {}, found {}", -kMaxPriority, kMaxPriority, input.priority);
  if (input.truncate_prompt < 0)
    return FieldError("truncate_prompt_tokens", "expected a number above 0, found {}", input.truncate_prompt);
  return absl::OkStatus();
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), Message(status));
}

GenerateCall::GenerateCall(grpc::CallbackServerContext* context, const v1::GenerateRequest* request,
                           Frontend* frontend, ServerMetrics* metrics, size_t max_unsent, TimePoint arrival)
    : context_(context),
      request_(request),
      frontend_(frontend),
      metrics_(metrics),
      max_unsent_(max_unsent),
      logprobs_(request->has_sampling() && request->sampling().logprobs() >= 0),
      id_(IdOf(*request)),
      peer_(context->peer()),
      arrival_(arrival) {}

void GenerateCall::Run(ThreadPool* pool, const ClientQuota& client) {
  {
    std::lock_guard lock(mu_);
    client_ = client.name;
    submitting_ = true;
  }
  if (pool->TryRun([self = shared_from_this(), client] { self->Submit(client); })) return;
  {
    std::lock_guard lock(mu_);
    submitting_ = false;
  }
  Refuse(ResourceExhausted("too many requests at once: try again later"));
}

void GenerateCall::Refuse(const absl::Status& status) {
  metrics_->Rejected(RejectReason(status));
  std::lock_guard lock(mu_);
  if (const auto seconds = RetryAfterOf(status); seconds && !end_) {
    context_->AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(*seconds * 1000));
  }
  if (!end_) end_ = ToGrpc(status);
  Log(*end_, nullptr);
  Advance();
}

void GenerateCall::Submit(const ClientQuota& client) {
  const auto self = shared_from_this();
  bool gone = false;
  {
    std::lock_guard lock(mu_);
    gone = cancelled_;
  }
  absl::Status status = gone ? Cancelled("the client left") : absl::OkStatus();
  if (status.ok()) {
    GenerateInput input = ToInput(*request_, id_, arrival_, client);
    status = CheckRanges(input);
    if (status.ok()) status = ReadGrpcForm(*request_, &input, &one_call_);
    if (!input.tools.empty()) tools_.emplace();
    if (status.ok()) {
      status = frontend_->Generate(
          std::move(input),
          {.on_prompt = nullptr,
           .on_delta = [self](TextDelta&& delta) { return self->OnDelta(delta); },
           .on_prompt_tokens = [self](std::vector<PromptToken>&& tokens) { self->OnPromptTokens(tokens); },
           .on_done = [self](const TextResult& result) { self->OnResult(result); }});
    }
  }
  bool cancel = false;
  {
    std::lock_guard lock(mu_);
    submitting_ = false;
    if (status.ok()) {
      cancel = cancelled_;  // it left in the meantime
      Advance();
    }
  }
  if (!status.ok()) Refuse(status);
  if (cancel) frontend_->Cancel(id_);
}

void GenerateCall::Log(const grpc::Status& status, const TextResult* result) {
  if (std::exchange(logged_, true)) return;
  RequestLogLine line{.id = id_,
                      .answer = {},
                      .route = "/fulger.v1.Fulger/Generate",
                      .client = client_,
                      .peer = peer_,
                      .status = NameOf(status.error_code()),
                      .finish = {},
                      .stream = true,
                      .choices = 1,
                      .total = Seconds(std::chrono::steady_clock::now() - arrival_),
                      .error = status.error_message()};
  if (result != nullptr) {
    line.finish = cancelled_ ? "abort" : called_ ? "tool_calls" : result->finish_reason;
    line.prompt_tokens = result->prompt_tokens;
    line.cached_tokens = result->cached_tokens;
    line.image_tokens = result->image_tokens;
    line.completion_tokens = result->completion_tokens;
    line.picture = result->picture_seconds;
    line.queue = result->times.queue;
    line.prefill = result->times.prefill;
    line.decode = result->times.decode;
  }
  LogRequest(line);
}

void GenerateCall::OnPromptTokens(const std::vector<PromptToken>& tokens) {
  v1::GenerateResponse response;
  response.set_request_id(id_);
  for (const PromptToken& token : tokens) {
    if (token.rank == 0) continue;
    v1::ScoredToken* scored = response.add_prompt();
    scored->set_id(token.id);
    scored->set_rank(token.rank);
    scored->set_logprob(token.logprob);
    for (const auto& [id, logprob] : token.top) {
      v1::TokenLogprob* top = scored->add_top();
      top->set_id(id);
      top->set_logprob(logprob);
    }
  }
  if (response.prompt_size() > 0) Push(std::move(response));
}

void GenerateCall::AddOutput(const ToolCallParser::Output& output, v1::GenerateResponse* response) {
  response->set_text(output.text);
  for (const ToolCallDelta& delta : output.calls) {
    if (one_call_ && delta.index > 0) break;
    called_ = true;
    v1::ToolCall* call = response->add_tool_calls();
    call->set_index(static_cast<int32_t>(delta.index));
    if (!delta.name.empty()) call->set_id(NewId("call_"));
    call->set_name(delta.name);
    call->set_arguments(delta.arguments);
  }
}

bool GenerateCall::OnDelta(const TextDelta& delta) {
  if (enough_) return false;
  v1::GenerateResponse response;
  response.set_request_id(id_);
  if (tools_) {
    AddOutput(tools_->Push(delta.text), &response);
    enough_ = one_call_ && tools_->complete() > 0;
  } else {
    response.set_text(delta.text);
  }
  if (delta.id >= 0) {
    response.add_ids(delta.id);
    if (logprobs_) {
      v1::TokenLogprob* own = response.add_logprobs();
      own->set_id(delta.id);
      own->set_logprob(delta.logprob);
    }
  }
  for (const auto& [id, logprob] : delta.top) {
    v1::TokenLogprob* top = response.add_logprobs();
    top->set_id(id);
    top->set_logprob(logprob);
  }
  Push(std::move(response), delta.saved);
  return !enough_;
}

// `at_once`: no client can have read as fast.
void GenerateCall::Push(v1::GenerateResponse response, bool at_once) {
  std::lock_guard lock(mu_);
  if (finished_ || cancelled_) return;
  if (at_once) ++max_unsent_;
  if (unsent_.size() >= max_unsent_) {
    LogInfo("{}: client is more than {} tokens behind: cut off", id_, max_unsent_);
    cancelled_ = true;
    unsent_.clear();
    context_->TryCancel();  // OnCancel follows
    return;
  }
  unsent_.push_back(std::move(response));
  Advance();
}

void GenerateCall::OnResult(const TextResult& result) {
  std::lock_guard lock(mu_);
  if (end_) return Log(*end_, &result);
  if (result.finish_reason == "error" || result.finish_reason == "cancelled") {
    end_ = ToGrpc(result.error.ok() ? Cancelled("the request was cancelled") : result.error);
    Log(*end_, &result);
  } else {
    v1::GenerateResponse response;
    response.set_request_id(id_);
    if (tools_ && !enough_) AddOutput(tools_->Flush(), &response);
    response.set_finish_reason(called_ ? "tool_calls" : result.finish_reason);
    v1::Usage* usage = response.mutable_usage();
    usage->set_prompt_tokens(static_cast<int32_t>(result.prompt_tokens));
    usage->set_completion_tokens(static_cast<int32_t>(result.completion_tokens));
    usage->set_cached_tokens(static_cast<int32_t>(result.cached_tokens));
    usage->set_image_tokens(static_cast<int32_t>(result.image_tokens));
    unsent_.push_back(std::move(response));
    end_ = grpc::Status::OK;
    Log(*end_, &result);
  }
  Advance();
}

void GenerateCall::Advance() {
  if (finished_ || write_in_flight_) return;
  if (!unsent_.empty() && !cancelled_) {
    writing_ = std::move(unsent_.front());
    unsent_.pop_front();
    write_in_flight_ = true;
    StartWrite(&writing_);
  } else if (end_ && !submitting_) {
    finished_ = true;
    Finish(*end_);
  }
}

void GenerateCall::OnWriteDone(bool ok) {
  std::lock_guard lock(mu_);
  write_in_flight_ = false;
  if (!ok) {  // OnCancel comes as well, perhaps later
    cancelled_ = true;
    if (!end_ || end_->ok()) end_ = grpc::Status(grpc::StatusCode::CANCELLED, "the client left");
  }
  Advance();
}

void GenerateCall::OnCancel() {
  bool running = false;
  {
    std::lock_guard lock(mu_);
    cancelled_ = true;
    running = !end_ || !end_->ok();
    if (!end_) end_ = grpc::Status(grpc::StatusCode::CANCELLED, "the client left");
    Advance();
  }
  if (running) frontend_->Cancel(id_);
}

void GenerateCall::OnDone() { self_.reset(); }

}  // namespace fulger
