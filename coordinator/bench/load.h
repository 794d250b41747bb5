// Sends requests when they are due and writes down what came back and when. One thread for everything.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/bench/arrivals.h"
#include "coordinator/bench/mix.h"
#include "coordinator/bench/stream_client.h"

namespace fulger::bench {

enum class Outcome : uint8_t { kUnderWay, kSucceeded, kFailed, kCancelled };

// Times are seconds from the start of the run.
struct RequestRecord {
  int64_t session = 0, turn = 0;
  double due = 0;   // by the arrival process; of a closed loop and of later turns: when the one before ended
  double sent = 0;  // later than `due` only if this client could not keep up
  double end = 0;
  std::vector<double> tokens;  // when each event with a token came
  Outcome outcome = Outcome::kUnderWay;
  std::string error;
  std::string finish_reason;
  int64_t asked_tokens = 0;  // max_tokens; 0: the server's choice
  bool has_usage = false;
  int64_t prompt_tokens = 0, completion_tokens = 0, total_tokens = 0, cached_tokens = 0;
  int64_t running_tokens = 0;  // the last running usage before the final one
  int64_t lost_tokens = 0;     // what running usage jumped over
  bool running = false;        // the server gives running usage
};

struct LoadPlan {
  ArrivalSpec arrivals;
  Api api = Api::kChat;
  int64_t sessions = 0;  // at most; 0: any number
  double duration = 0;   // nothing new is sent from then on; 0: no bound. One of both is given
  double drain = 600;    // what is under way so long after the last request was due is cut off
  uint64_t seed = 1;
};

struct LoadResult {
  std::vector<RequestRecord> records;
  int64_t sent = 0;          // requests, counted when they leave
  int64_t token_events = 0;  // counted when they come
  double seconds = 0;        // to the end of the last request
  bool interrupted = false;  // SIGINT or SIGTERM
};

struct LoadProgress {
  double seconds = 0;
  int64_t sent = 0, succeeded = 0, failed = 0, under_way = 0, token_events = 0;
};

// `on_progress` is called twice a second; may be empty.
LoadResult RunLoad(const LoadPlan& plan, const RequestMix& mix, StreamClient* client,
                   const std::function<void(const LoadProgress&)>& on_progress);

// What one event says; false: nothing follows. Exposed for its tests.
class AnswerReader {
 public:
  explicit AnswerReader(RequestRecord* record) : record_(record) {}
  bool OnEvent(std::string_view data, double now);
  bool done() const { return done_; }                // [DONE] came
  const std::string& text() const { return text_; }  // all of it
  int64_t token_events() const { return static_cast<int64_t>(record_->tokens.size()); }

 private:
  void OnUsage(const nlohmann::json& usage, bool final);
  RequestRecord* record_;
  std::string text_;
  bool done_ = false;
};

}  // namespace fulger::bench
