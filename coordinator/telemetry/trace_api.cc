#include "coordinator/telemetry/trace_api.h"

#include <charconv>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "coordinator/api/openai_answer.h"
#include "coordinator/frontend/field_error.h"

namespace fulger {

TraceApi::TraceApi(TraceApiOptions options, Timeline* timeline)
    : options_(std::move(options)), timeline_(timeline) {}

TraceApi::~TraceApi() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<double> TraceApi::Admit(const HttpRequest& request) const {
  if (options_.keys != nullptr) {
    RETURN_IF_ERROR(options_.keys->Check(request.Header("Authorization")).status());
  }
  if (request.query.empty()) return 5.0;
  const std::string_view query = request.query;
  constexpr std::string_view kName = "seconds=";
  double seconds = 0;
  const bool named = query.starts_with(kName);
  const auto [rest, error] =
      std::from_chars(query.data() + (named ? kName.size() : 0), query.data() + query.size(), seconds);
  if (!named || error != std::errc() || rest != query.data() + query.size() ||
      !(seconds > 0 && seconds <= kMostSeconds)) {
    return FieldError("seconds", "expected ?seconds=S, S above 0 and at most {}, found \"{}\"", kMostSeconds,
                      query);
  }
  return seconds;
}

void TraceApi::Register(Router* router) {
  router->Add("GET", "/debug/trace",
              [this](std::shared_ptr<const HttpRequest> request, std::shared_ptr<HttpResponder> responder) {
                const absl::StatusOr<double> seconds = Admit(*request);
                if (!seconds.ok()) return responder->Send(ErrorOf(seconds.status()));
                // Set with mu_ held.
                const auto gone = std::make_shared<bool>(false);
                {
                  std::lock_guard lock(mu_);
                  if (stopping_) return responder->Send(ErrorOf(Unavailable("the server is stopping")));
                  if (running_)
                    return responder->Send(ErrorOf(ResourceExhausted("a trace is being gathered already")));
                  if (thread_.joinable()) thread_.join();  // it has ended
                  running_ = true;
                  thread_ =
                      std::thread([this, s = *seconds, responder, gone] { Gather(s, responder, gone); });
                }
                responder->OnGone([this, gone] {
                  {
                    std::lock_guard lock(mu_);
                    *gone = true;
                  }
                  wake_.notify_all();
                });
              });
}

void TraceApi::Gather(double seconds, const std::shared_ptr<HttpResponder>& responder,
                      const std::shared_ptr<const bool>& gone) {
  LogInfo("a timeline of steps is gathered for {} s", seconds);
  timeline_->Start(std::chrono::steady_clock::now());
  options_.listen(timeline_);
  bool left = false;
  {
    std::unique_lock lock(mu_);
    wake_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return stopping_ || *gone; });
    left = *gone;
  }
  options_.listen(nullptr);
  HttpResponse response;
  response.body = timeline_->Finish(options_.about);
  response.headers = {{"Content-Disposition", "attachment; filename=\"fulger-trace.json\""}};
  if (!left) responder->Send(std::move(response));
  std::lock_guard lock(mu_);
  running_ = false;
}

}  // namespace fulger
