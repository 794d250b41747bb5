// One Generate call of the gRPC service. Internal to it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "coordinator/api/tool_calls.h"
#include "coordinator/frontend/frontend.h"
#include "fulger/v1/generate.grpc.pb.h"

namespace fulger {

class ServerMetrics;

grpc::Status ToGrpc(const absl::Status& status);

// Lives until gRPC is done with the call (OnDone) and the engine with the request. One write is in flight at
// a time; the mutex guards everything that both sides touch.
class GenerateCall final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  GenerateCall(grpc::CallbackServerContext* context, const v1::GenerateRequest* request, Frontend* frontend,
               ServerMetrics* metrics, size_t max_unsent, TimePoint arrival);

  // Submits on the pool. A refusal ends the call.
  void Run(ThreadPool* pool, const ClientQuota& client);
  void Refuse(const absl::Status& status);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // gRPC owns a reference to the reactor until OnDone.
  void KeepUntilDone() { self_ = shared_from_this(); }

 private:
  void Submit(const ClientQuota& client);
  void OnPromptTokens(const std::vector<PromptToken>& tokens);
  bool OnDelta(const TextDelta& delta);
  void Push(v1::GenerateResponse response, bool at_once = false);
  void OnResult(const TextResult& result);
  // The text that is none of a call goes into the response, and so do the calls.
  void AddOutput(const ToolCallParser::Output& output, v1::GenerateResponse* response);
  // Once, with mu_ held.
  void Log(const grpc::Status& status, const TextResult* result);
  // With mu_ held: the next write, or the end.
  void Advance();

  grpc::CallbackServerContext* const context_;
  const v1::GenerateRequest* const request_;  // valid until Finish
  Frontend* const frontend_;
  ServerMetrics* const metrics_;
  size_t max_unsent_;
  const bool logprobs_;
  const std::string id_;
  const std::string peer_;
  const TimePoint arrival_;
  std::string client_;
  std::shared_ptr<GenerateCall> self_;

  // Of the engine's thread, once it is submitted.
  std::optional<ToolCallParser> tools_;
  bool one_call_ = false, called_ = false, enough_ = false;

  std::mutex mu_;
  std::deque<v1::GenerateResponse> unsent_;
  v1::GenerateResponse writing_;
  std::optional<grpc::Status> end_;
  bool submitting_ = false;  // the pool reads the request: no Finish yet
  bool write_in_flight_ = false, cancelled_ = false, finished_ = false, logged_ = false;
};

}  // namespace fulger
