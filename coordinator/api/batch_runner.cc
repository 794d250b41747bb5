#include "coordinator/api/batch_runner.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>

#include "base/log.h"
#include "coordinator/api/ids.h"

namespace fulger {
namespace {

constexpr Duration kLook =
    std::chrono::seconds(5);  // for what nobody tells: time passing, a store that works again

std::string HeaderOf(const HttpResponse& response, std::string_view name) {
  for (const auto& [key, value] : response.headers) {
    if (key == name) return value;
  }
  return {};
}

// A line of the output or error file.
std::string ResultOf(const BatchLine& line, const HttpResponse& response) {
  std::string json = R"({"id":")" + NewId("batch_req_") + R"(","custom_id":)";
  AppendJsonString(&json, line.custom_id);
  json += fmt::format(R"(,"response":{{"status_code":{},"request_id":)", response.status);
  AppendJsonString(&json, HeaderOf(response, "x-request-id"));
  return json + R"(,"body":)" + response.body + R"(},"error":null})";
}

std::string ExpiredResult(const BatchLine& line) {
  std::string json = R"({"id":")" + NewId("batch_req_") + R"(","custom_id":)";
  AppendJsonString(&json, line.custom_id);
  return json +
         R"(,"response":null,"error":{"code":"batch_expired","message":"the batch's completion window was over"}})";
}

}  // namespace

// Takes one whole answer; a line that is dropped unanswered is tried again.
class BatchRunner::Responder final : public HttpResponder {
 public:
  Responder(std::shared_ptr<Shared> shared, BatchLine line)
      : shared_(std::move(shared)), line_(std::move(line)) {
    std::lock_guard lock(shared_->mu);
    shared_->live.insert(this);
  }
  ~Responder() override {
    Put({.status = 0});
    std::lock_guard lock(shared_->mu);
    shared_->live.erase(this);
  }
  void Send(HttpResponse response) override { Put(std::move(response)); }
  // Lines that ask for a stream are refused before.
  void Begin(int, std::string_view, const HttpHeaders&) override {}
  bool Write(std::string_view) override { return false; }
  void End() override {}
  void OnGone(std::function<void()> gone) override {
    std::lock_guard lock(shared_->mu);
    gone_ = std::move(gone);
    if (shared_->stopping) Leave();
  }
  // With the lock held.
  void Leave() {
    if (!sent_ && gone_) std::exchange(gone_, nullptr)();
  }

 private:
  void Put(HttpResponse response) {
    std::lock_guard lock(shared_->mu);
    if (std::exchange(sent_, true)) return;
    shared_->answered.push_back({.line = std::move(line_), .response = std::move(response)});
    shared_->changed.notify_all();
  }

  const std::shared_ptr<Shared> shared_;
  BatchLine line_;
  bool sent_ = false;
  std::function<void()> gone_;
};

BatchRunner::BatchRunner(JobStore* store, RunLine run, Options options)
    : store_(store), run_(std::move(run)), options_(std::move(options)), thread_([this] { Run(); }) {}

BatchRunner::~BatchRunner() { Stop(); }

void BatchRunner::Stop() {
  {
    std::lock_guard lock(shared_->mu);
    shared_->stopping = true;
    for (Responder* responder : shared_->live) responder->Leave();
    shared_->changed.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void BatchRunner::Pause() {
  std::lock_guard lock(shared_->mu);
  shared_->paused = true;
}

void BatchRunner::Wake() {
  std::lock_guard lock(shared_->mu);
  shared_->awake = true;
  shared_->changed.notify_all();
}

void BatchRunner::Run() {
  std::unique_lock lock(shared_->mu);
  while (true) {
    const auto due = [&] {
      return !shared_->paused && !delayed_.empty() &&
             delayed_.begin()->first <= std::chrono::steady_clock::now();
    };
    TimePoint until = std::chrono::steady_clock::now() + kLook;
    if (!shared_->paused && !delayed_.empty()) until = std::min(until, delayed_.begin()->first);
    shared_->changed.wait_until(lock, until, [&] {
      return shared_->stopping || shared_->awake || !shared_->answered.empty() || due();
    });
    const bool stopping = shared_->stopping;
    paused_ = shared_->paused;
    shared_->awake = false;
    std::vector<Answered> answered = std::exchange(shared_->answered, {});
    lock.unlock();
    for (Answered& one : answered) {
      // What was cancelled by stopping is no result.
      if (!stopping || one.response.status == 200) Take(std::move(one));
    }
    if (stopping) return;
    if (const absl::Status turn = Turn(); !turn.ok()) LogError("batches: {}", Message(turn));
    lock.lock();
  }
}

void BatchRunner::Take(Answered answered) {
  --running_;
  Progress& progress = progress_[answered.line.batch];
  --progress.running;
  const int status = answered.response.status;
  if (status == 0 || status == 429 || status == 503) {  // not now, which is no answer
    const std::string seconds = HeaderOf(answered.response, "Retry-After");
    const auto wait = std::chrono::seconds(std::clamp(std::atoi(seconds.c_str()), 1, 60));
    delayed_.emplace(std::chrono::steady_clock::now() + wait, std::move(answered.line));
    return;
  }
  const BatchLine& line = answered.line;
  const absl::Status stored =
      store_->FinishLine(line.batch, line.number, status == 200, ResultOf(line, answered.response));
  if (stored.ok()) return;
  LogError("batch {} line {}: {}: it will run again", line.batch, line.number, Message(stored));
  delayed_.emplace(std::chrono::steady_clock::now() + kLook, std::move(answered.line));
}

absl::Status BatchRunner::Turn() {
  ASSIGN_OR_RETURN(const std::vector<Batch> open, store_->OpenBatches());
  const int64_t now = options_.now ? options_.now() : std::time(nullptr);
  for (const Batch& batch : open) {
    Progress& progress = progress_[batch.id];
    const bool cancelled = batch.status == "cancelling", expired = now >= batch.expires;
    if (cancelled || expired) {
      std::erase_if(delayed_, [&](const auto& entry) { return entry.second.batch == batch.id; });
      if (progress.running > 0) continue;  // what is under way counts
      if (!cancelled) RETURN_IF_ERROR(Expire(batch));
      RETURN_IF_ERROR(End(batch, cancelled ? "cancelled" : "expired"));
      continue;
    }
    if (!paused_) RETURN_IF_ERROR(Begin(batch, &progress));
    const bool waiting =
        std::ranges::any_of(delayed_, [&](const auto& entry) { return entry.second.batch == batch.id; });
    if (progress.drained && progress.running == 0 && !waiting) RETURN_IF_ERROR(End(batch, "completed"));
  }
  return absl::OkStatus();
}

absl::Status BatchRunner::Begin(const Batch& batch, Progress* progress) {
  const TimePoint now = std::chrono::steady_clock::now();
  for (auto at = delayed_.begin();
       at != delayed_.end() && at->first <= now && running_ < options_.concurrency;) {
    if (at->second.batch != batch.id) {
      ++at;
      continue;
    }
    BatchLine line = std::move(at->second);
    at = delayed_.erase(at);
    StartLine(batch, std::move(line));
  }
  if (progress->drained || running_ >= options_.concurrency) return absl::OkStatus();
  const int64_t wanted = options_.concurrency - running_;
  ASSIGN_OR_RETURN(std::vector<BatchLine> lines, store_->OpenLines(batch.id, progress->next, wanted));
  progress->drained = std::ssize(lines) < wanted;
  for (BatchLine& line : lines) {
    progress->next = line.number + 1;
    StartLine(batch, std::move(line));
  }
  return absl::OkStatus();
}

void BatchRunner::StartLine(const Batch& batch, BatchLine line) {
  ++running_;
  ++progress_[batch.id].running;
  std::string body = line.body;
  run_(batch.endpoint, std::move(body), std::make_shared<Responder>(shared_, std::move(line)));
}

absl::Status BatchRunner::Expire(const Batch& batch) {
  while (true) {
    ASSIGN_OR_RETURN(const std::vector<BatchLine> lines, store_->OpenLines(batch.id, 0, 1000));
    if (lines.empty()) return absl::OkStatus();
    for (const BatchLine& line : lines) {
      RETURN_IF_ERROR(store_->FinishLine(batch.id, line.number, /*ok=*/false, ExpiredResult(line)));
    }
  }
}

absl::Status BatchRunner::End(const Batch& batch, const char* status) {
  const int64_t now = options_.now ? options_.now() : std::time(nullptr);
  RETURN_IF_ERROR(store_->EndBatch(batch, status, NewId("file-"), NewId("file-"), now));
  progress_.erase(batch.id);
  LogInfo("batch {}: {}", batch.id, status);
  return absl::OkStatus();
}

}  // namespace fulger
