#include "coordinator/cli/offline_load.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/bench/random.h"

namespace fulger {
namespace {

constexpr auto kTurn = std::chrono::seconds(1);  // between two looks at health and progress

// What the sinks, on the engine's thread, tell the thread that waits.
class Books {
 public:
  explicit Books(const OfflineLoad& load) : load_(load) {}

  // Blocks while `limit` requests are under way; then one more is. False: a turn has passed, or one failed.
  bool Admit(int64_t limit) {
    std::unique_lock lock(mu_);
    if (!changed_.wait_for(lock, kTurn, [&] { return under_way_ < limit || !error_.ok(); })) return false;
    if (!error_.ok()) return false;
    ++under_way_;
    return true;
  }
  // False: a turn has passed.
  bool WaitForAll() {
    std::unique_lock lock(mu_);
    return changed_.wait_for(lock, kTurn, [&] { return under_way_ == 0; });
  }
  void NotSubmitted() {
    std::lock_guard lock(mu_);
    --under_way_;
  }
  absl::Status error() const {
    std::lock_guard lock(mu_);
    return error_;
  }
  OfflineFigures figures() const {
    std::lock_guard lock(mu_);
    OfflineFigures figures = figures_;
    figures.seconds = Seconds(std::chrono::steady_clock::now() - start_);
    return figures;
  }
  void Ended(const std::string& id, const Completion& c, int64_t delivered) {
    std::lock_guard lock(mu_);
    if (error_.ok()) error_ = Check(id, c, delivered);
    ++figures_.requests;
    figures_.prompt_tokens += c.prompt_tokens;
    figures_.generated_tokens += delivered;
    --under_way_;
    changed_.notify_all();
  }

 private:
  absl::Status Check(const std::string& id, const Completion& c, int64_t delivered) const {
    if (!c.error.ok()) return c.error;
    if (c.reason != FinishReason::kLength || c.completion_tokens != load_.output ||
        delivered != load_.output || c.prompt_tokens != load_.input || c.cached_tokens != 0) {
      return DataLoss(
          "request {}: expected {} prompt tokens, none of them cached, and {} of the answer, which its "
          "length "
          "ends; the engine counted {}, {} and {} (reason {}), and delivered {}",
          id, load_.input, load_.output, c.prompt_tokens, c.cached_tokens, c.completion_tokens,
          static_cast<int>(c.reason), delivered);
    }
    return absl::OkStatus();
  }

  const OfflineLoad load_;
  const TimePoint start_ = std::chrono::steady_clock::now();
  mutable std::mutex mu_;
  std::condition_variable changed_;
  int64_t under_way_ = 0;
  absl::Status error_;
  OfflineFigures figures_;
};

class OfflineSink final : public ResponseSink {
 public:
  // The sink may outlive the run's last wait by the return from OnDone, hence shared.
  OfflineSink(std::string id, std::shared_ptr<Books> books) : id_(std::move(id)), books_(std::move(books)) {}
  Next OnToken(const Token&) override {
    ++delivered_;
    return Next::kContinue;
  }
  void OnDone(const Completion& completion) override { books_->Ended(id_, completion, delivered_); }

 private:
  const std::string id_;
  const std::shared_ptr<Books> books_;
  int64_t delivered_ = 0;
};

std::string IdOf(int64_t index) { return "offline-" + std::to_string(index); }

EngineRequest MakeRequest(const OfflineLoad& load, int64_t index) {
  EngineRequest request;
  request.id = IdOf(index);
  bench::Random random(load.seed, static_cast<uint64_t>(index));
  while (std::ssize(request.prompt) < load.input) {
    const auto id = static_cast<int32_t>(random.Below(load.vocab));
    if (id != load.never) request.prompt.push_back(id);
  }
  request.sampling.set_top_p(1);
  request.sampling.set_repetition_penalty(1);
  request.sampling.set_logprobs(-1);
  request.sampling.set_max_tokens(static_cast<int32_t>(load.output));
  request.use_anchors = false;
  return request;
}

}  // namespace

absl::StatusOr<OfflineFigures> RunOffline(const OfflineLoad& load, Engine& engine,
                                          const OfflineWatch& watch) {
  if (load.vocab < 2) return InvalidArgument("a vocabulary of {} has no two tokens", load.vocab);
  std::vector<EngineRequest> requests;  // drawn before the clock runs
  for (int64_t i = 0; i < load.requests; ++i) requests.push_back(MakeRequest(load, i));
  const auto books = std::make_shared<Books>(load);
  const auto look = [&] {
    RETURN_IF_ERROR(books->error());
    if (watch.progress) watch.progress(books->figures());
    return watch.health();
  };
  absl::Status failed;
  for (EngineRequest& request : requests) {
    while (failed.ok() && !books->Admit(load.in_flight)) failed = look();
    if (!failed.ok()) break;
    auto sink = std::make_shared<OfflineSink>(request.id, books);
    failed = engine.Submit(std::move(request), std::move(sink));
    if (failed.ok()) continue;
    books->NotSubmitted();
    break;
  }
  for (bool cancelled = false; !books->WaitForAll() || (!failed.ok() && !cancelled);) {
    if (failed.ok()) failed = look();
    if (failed.ok() || cancelled) continue;
    for (int64_t i = 0; i < load.requests; ++i) engine.Cancel(IdOf(i));
    cancelled = true;
  }
  const OfflineFigures figures = books->figures();
  RETURN_IF_ERROR(failed);
  RETURN_IF_ERROR(books->error());
  if (figures.requests != load.requests) {
    return DataLoss("{} requests were sent, {} answered", load.requests, figures.requests);
  }
  return figures;
}

absl::Status CheckTotals(const OfflineFigures& all, const EngineStats& stats) {
  if (stats.prompt_tokens == static_cast<uint64_t>(all.prompt_tokens) &&
      stats.generated_tokens == static_cast<uint64_t>(all.generated_tokens)) {
    return absl::OkStatus();
  }
  return DataLoss("the engine counted {} tokens of prompts and {} generated; the answers had {} and {}",
                  stats.prompt_tokens, stats.generated_tokens, all.prompt_tokens, all.generated_tokens);
}

}  // namespace fulger
