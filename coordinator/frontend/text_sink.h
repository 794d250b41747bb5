// One request's tokens on their way out: ids become text, stop strings end it, latencies are counted.
// Engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "coordinator/engine/types.h"
#include "coordinator/frontend/admission.h"
#include "coordinator/frontend/deadline_watch.h"
#include "coordinator/frontend/frontend.h"
#include "coordinator/text/detokenizer.h"
#include "coordinator/text/stop_strings.h"

namespace fulger {

struct TextSinkOptions {
  bool skip_special_tokens = true;
  int64_t max_tokens = 0;
  std::optional<int32_t> prompt_head;  // with prompt_logprobs: the first token of the prompt
  std::vector<int32_t> own_stop_ids;   // the request's: the others are the model's own end
  TimePoint arrival{};
  double picture_seconds = 0;
  const Clock* clock = nullptr;
  ServerMetrics* metrics = nullptr;  // may be null
};

// What a request holds while it is under way; each may be null.
struct TextSinkHolds {
  std::unique_ptr<Admission::Ticket> ticket;
  std::unique_ptr<DeadlineWatch::Entry> deadline;
};

class TextSink final : public ResponseSink {
 public:
  // `tokenizer`, clock and metrics must outlive the sink.
  TextSink(const Tokenizer* tokenizer, StopStringMatcher stops, TextSinkOptions options,
           TextHandlers handlers, TextSinkHolds holds);

  Next OnToken(const Token& token) override;
  void OnPromptScores(const v1::PromptScores& scores, int first) override;
  void OnDone(const Completion& completion) override;

 private:
  // The prompt's first token, once, if it is asked for.
  void PutPromptHead(std::vector<PromptToken>* tokens);
  // The text that is still held back, at the end. May find a stop string.
  std::string Rest();
  // Text goes through here; sets stopped_.
  std::string Match(const std::string& text);
  void CountToken();
  void CountEnd(const Completion& completion, const std::string& reason);

  const TextSinkOptions options_;
  const TextHandlers handlers_;
  TextSinkHolds holds_;
  Detokenizer detokenizer_;
  Detokenizer prompt_detokenizer_;
  bool prompt_begun_ = false;
  StopStringMatcher stops_;
  bool stopped_ = false, flushed_ = false;
  std::string stop_string_;
  int64_t tokens_ = 0;
  TimePoint first_token_{}, last_token_{};
};

}  // namespace fulger
