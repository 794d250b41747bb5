// The OpenAI-compatible HTTP API: routes for an HttpServer, over a Frontend.
//
// Threads: cheap routes (health, metrics, models) answer on the server's threads, so they work while
// everything else is busy; the rest runs on a pool of this class, and is refused when the pool's queue is
// full. The frontend, registry and metrics must outlive this object, and this object the HTTP server.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "coordinator/api/api_keys.h"
#include "coordinator/api/http.h"
#include "coordinator/api/request_log.h"
#include "coordinator/frontend/frontend.h"
#include "monitoring/metrics/metrics.h"
#include "monitoring/metrics/server_metrics.h"

namespace fulger {

struct OpenAiOptions {
  int threads = 4;
  size_t max_waiting = 512;          // requests that wait for a thread; beyond: 429
  const ApiKeyRing* keys = nullptr;  // open /v1, /tokenize, /detokenize; null: open to all
  Duration request_timeout{0};       // of a request; 0: none. Clients may ask for less in x-request-timeout
  int64_t max_choices = 128;         // answers to one request
  uint64_t max_image_bytes = uint64_t{32} << 20;
  int64_t max_images = 64;
  std::string version;
  std::function<std::string()> server_info;  // a JSON object
  // Not ready when requests run and no step has finished for so long.
  Duration stall_timeout = std::chrono::seconds(60);
};

class OpenAiApi {
 public:
  OpenAiApi(OpenAiOptions options, Frontend* frontend, MetricRegistry* registry, ServerMetrics* metrics);

  void Register(Router* router);
  // As if a client without a key had sent `body` to `endpoint`, /v1/chat/completions or /v1/completions. Does
  // not block.
  void Answer(const std::string& endpoint, std::string body, std::shared_ptr<HttpResponder> responder);

 private:
  struct Call {
    std::shared_ptr<const HttpRequest> request;
    std::shared_ptr<HttpResponder> responder;
    HttpHeaders headers;  // for the answer: x-request-id
    TimePoint arrival{};
    ClientQuota client{};
    std::string route{}, peer{};
    bool handed_on = false;  // whoever answers it logs it as well
    std::string Id() const { return headers.front().second; }
  };
  using Method = absl::Status (OpenAiApi::*)(Call&);

  // A handler that authorises, checks readiness if told to, and runs `method` on the pool. What it returns is
  // answered as an error, unless it answered itself.
  HttpHandler OnPool(Method method, bool needs_engine);
  void Run(Method method, Call call);
  absl::StatusOr<ClientQuota> Admit(const HttpRequest& request, bool needs_engine) const;
  absl::StatusOr<TimePoint> DeadlineOf(const HttpRequest& request, TimePoint arrival) const;
  RequestLogLine LineOf(const Call& call, int status) const;
  void Reject(const Call& call, const absl::Status& status);
  void SendJson(const Call& call, std::string body);

  absl::Status Chat(Call& call);
  absl::Status Complete(Call& call);
  absl::Status Generate(Call& call, bool chat);
  absl::Status Tokenize(Call& call);
  absl::Status Detokenize(Call& call);
  absl::Status CheckModel(const std::string& model) const;
  void Health(const HttpRequest& request, HttpResponder* responder) const;
  void Models(const HttpRequest& request, HttpResponder* responder, const std::string& wanted) const;
  std::string ModelJson() const;

  const OpenAiOptions options_;
  Frontend* const frontend_;
  MetricRegistry* const registry_;
  ServerMetrics* const metrics_;
  const int64_t created_;
  SteadyClock clock_;
  ThreadPool pool_;  // last: its threads use the rest
};

}  // namespace fulger
