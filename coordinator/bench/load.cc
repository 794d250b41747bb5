#include "coordinator/bench/load.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <csignal>
#include <memory>
#include <utility>

#include "base/check.h"

namespace fulger::bench {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

class Run {
 public:
  Run(const LoadPlan& plan, const RequestMix& mix, StreamClient* client,
      const std::function<void(const LoadProgress&)>& on_progress)
      : plan_(plan),
        mix_(mix),
        client_(client),
        on_progress_(on_progress),
        limit_(context_),
        ticks_(context_),
        signals_(context_, SIGINT, SIGTERM) {}

  LoadResult Go() {
    const bool closed = plan_.arrivals.kind == ArrivalSpec::Kind::kClosed;
    const std::vector<double> offsets =
        ArrivalOffsets(plan_.arrivals, plan_.sessions, plan_.duration, plan_.seed);
    std::vector<Session> drawn;  // before the clock runs: drawing must not delay sending
    for (size_t i = 0; i < offsets.size(); ++i) drawn.push_back(mix_.Draw(static_cast<int64_t>(i)));
    signals_.async_wait([this](const boost::system::error_code& error, int) {
      if (error) return;
      result_.interrupted = true;
      Cut();
    });
    start_ = Clock::now();
    if (closed) {
      const int64_t users =
          plan_.sessions > 0 ? std::min(plan_.sessions, plan_.arrivals.count) : plan_.arrivals.count;
      for (int64_t user = 0; user < users; ++user) Spawn(User());
    } else {
      for (size_t i = 0; i < drawn.size(); ++i) {
        Spawn(Arrival(static_cast<int64_t>(i), offsets[i], std::move(drawn[i])));
      }
      last_due_ = offsets.empty() ? 0 : offsets.back();
    }
    if (tasks_ > 0) {
      Limit();
      if (on_progress_) Tick();
      context_.run();
    }
    for (auto& record : records_) result_.records.push_back(std::move(*record));
    return std::move(result_);
  }

 private:
  double Now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  Clock::time_point At(double seconds) const {
    return start_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }

  void Spawn(asio::awaitable<void> task) {
    ++tasks_;
    asio::co_spawn(context_, std::move(task), [this](const std::exception_ptr& error) {
      if (error) std::rethrow_exception(error);  // asio's own, for want of memory: nothing to save
      if (--tasks_ > 0) return;
      limit_.cancel();
      ticks_.cancel();
      boost::system::error_code ignored;
      signals_.cancel(ignored);
    });
  }

  void Limit() {
    limit_.expires_at(At(std::max(last_due_, Now()) + plan_.drain));
    limit_.async_wait([this](const boost::system::error_code& error) {
      if (!error) Cut();
    });
  }

  void Cut() {
    cut_ = true;
    client_->CancelAll();
    for (asio::steady_timer* const timer : waiting_) timer->cancel();
  }

  void Tick() {
    ticks_.expires_after(std::chrono::milliseconds(500));
    ticks_.async_wait([this](const boost::system::error_code& error) {
      LoadProgress progress = progress_;
      progress.seconds = Now();
      progress.sent = result_.sent;
      progress.token_events = result_.token_events;
      on_progress_(progress);
      if (!error) Tick();
    });
  }

  asio::awaitable<void> Arrival(int64_t number, double due, Session session) {
    asio::steady_timer timer(context_);
    timer.expires_at(At(due));
    boost::system::error_code error;
    waiting_.insert(&timer);
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    waiting_.erase(&timer);
    if (!cut_) co_await Talk(number, due, std::move(session));
  }

  // One of a closed loop.
  asio::awaitable<void> User() {
    while (!cut_ && (plan_.duration == 0 || Now() < plan_.duration) &&
           (plan_.sessions == 0 || next_session_ < plan_.sessions)) {
      const int64_t number = next_session_++;
      Session session = mix_.Draw(number);
      co_await Talk(number, Now(), std::move(session));
    }
  }

  asio::awaitable<void> Talk(int64_t number, double due, Session session) {
    std::vector<std::string> answers;
    for (size_t turn = 0; turn < session.size() && !cut_; ++turn) {
      if (turn > 0 && plan_.duration > 0 && Now() >= plan_.duration) co_return;
      auto owned = std::make_unique<RequestRecord>();
      RequestRecord* const record = owned.get();
      records_.push_back(std::move(owned));
      record->session = number;
      record->turn = static_cast<int64_t>(turn);
      record->due = due;
      record->asked_tokens = session.max_tokens(turn);
      std::string body = session.Body(turn, answers);
      AnswerReader reader(record);
      record->sent = Now();
      Limit();
      ++result_.sent;
      ++progress_.under_way;
      const StreamReply reply =
          co_await client_->Post(plan_.api == Api::kChat ? "/v1/chat/completions" : "/v1/completions",
                                 std::move(body), [&](std::string_view data) {
                                   const int64_t before = reader.token_events();
                                   const bool more = reader.OnEvent(data, Now());
                                   result_.token_events += reader.token_events() - before;
                                   return more;
                                 });
      record->end = due = Now();
      result_.seconds = std::max(result_.seconds, record->end);
      Close(reply, reader, record);
      if (record->outcome != Outcome::kSucceeded) co_return;
      answers.push_back(reader.text());
    }
  }

  void Close(const StreamReply& reply, const AnswerReader& reader, RequestRecord* record) {
    --progress_.under_way;
    if (reply.status.code() == absl::StatusCode::kCancelled) {
      record->outcome = Outcome::kCancelled;
      return;
    }
    if (!reply.status.ok()) {
      record->error = Message(reply.status);
    } else if (reply.code != 200) {
      record->error = "status " + std::to_string(reply.code) + ": " + reply.body.substr(0, 300);
    } else if (record->error.empty() && !reader.done()) {
      record->error = "the stream ended without [DONE]";
    } else if (record->error.empty() && record->finish_reason.empty()) {
      record->error = "no finish_reason came";
    }
    record->outcome = record->error.empty() ? Outcome::kSucceeded : Outcome::kFailed;
    ++(record->outcome == Outcome::kSucceeded ? progress_.succeeded : progress_.failed);
  }

  const LoadPlan& plan_;
  const RequestMix& mix_;
  StreamClient* const client_;
  const std::function<void(const LoadProgress&)>& on_progress_;
  asio::io_context context_{1};
  asio::steady_timer limit_, ticks_;
  asio::signal_set signals_;
  Clock::time_point start_{};
  std::vector<std::unique_ptr<RequestRecord>> records_;  // in the order of sending
  std::set<asio::steady_timer*> waiting_;
  LoadResult result_;
  LoadProgress progress_;
  double last_due_ = 0;  // of an open loop
  int64_t tasks_ = 0, next_session_ = 0;
  bool cut_ = false;
};

}  // namespace

LoadResult RunLoad(const LoadPlan& plan, const RequestMix& mix, StreamClient* client,
                   const std::function<void(const LoadProgress&)>& on_progress) {
  FULGER_CHECK(plan.sessions > 0 || plan.duration > 0);
  return Run(plan, mix, client, on_progress).Go();
}

}  // namespace fulger::bench
