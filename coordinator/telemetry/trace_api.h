// GET /debug/trace?seconds=S: gathers a timeline (timeline.h) for so long and answers with it. One at a time;
// a client that leaves ends it.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/status.h"
#include "coordinator/api/api_keys.h"
#include "coordinator/api/http.h"
#include "coordinator/telemetry/timeline.h"

namespace fulger {

struct TraceApiOptions {
  const ApiKeyRing* keys = nullptr;            // null: all may ask
  std::map<std::string, std::string> about{};  // goes into the trace
  // Called when ranks should begin (the timeline) and stop (null) to say what they do.
  std::function<void(TimingListener*)> listen;
};

class TraceApi {
 public:
  static constexpr double kMostSeconds = 60;

  // Keys and timeline must outlive this object, and this object the HTTP server.
  TraceApi(TraceApiOptions options, Timeline* timeline);
  ~TraceApi();  // ends what runs
  void Register(Router* router);

 private:
  absl::StatusOr<double> Admit(const HttpRequest& request) const;
  void Gather(double seconds, const std::shared_ptr<HttpResponder>& responder,
              const std::shared_ptr<const bool>& gone);

  const TraceApiOptions options_;
  Timeline* const timeline_;
  std::mutex mu_;
  std::condition_variable wake_;
  bool running_ = false, stopping_ = false;
  std::thread thread_;  // of the last trace
};

}  // namespace fulger
