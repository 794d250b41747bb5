#include "coordinator/frontend/text_sink.h"

#include <algorithm>
#include <utility>

#include "monitoring/metrics/server_metrics.h"

namespace fulger {

TextSink::TextSink(const Tokenizer* tokenizer, StopStringMatcher stops, TextSinkOptions options,
                   TextHandlers handlers, TextSinkHolds holds)
    : options_(std::move(options)),
      handlers_(std::move(handlers)),
      holds_(std::move(holds)),
      detokenizer_(tokenizer, {.skip_special_tokens = options_.skip_special_tokens}),
      prompt_detokenizer_(tokenizer, {.skip_special_tokens = false}),
      stops_(std::move(stops)) {}

void TextSink::PutPromptHead(std::vector<PromptToken>* tokens) {
  if (prompt_begun_ || !options_.prompt_head) return;
  prompt_begun_ = true;
  PromptToken& head = tokens->emplace_back();
  head.id = *options_.prompt_head;
  head.text = prompt_detokenizer_.Push(head.id);
}

void TextSink::OnPromptScores(const v1::PromptScores& scores, int first) {
  std::vector<PromptToken> tokens;
  PutPromptHead(&tokens);
  for (int i = first; i < scores.tokens_size(); ++i) {
    const v1::ScoredToken& scored = scores.tokens(i);
    PromptToken& token = tokens.emplace_back();
    token.id = scored.id();
    token.text = prompt_detokenizer_.Push(scored.id());
    token.rank = scored.rank();
    token.logprob = scored.logprob();
    for (const v1::TokenLogprob& top : scored.top()) token.top.emplace_back(top.id(), top.logprob());
  }
  if (handlers_.on_prompt_tokens) handlers_.on_prompt_tokens(std::move(tokens));
}

std::string TextSink::Match(const std::string& text) {
  if (stopped_) return {};
  StopStringMatcher::Output out = stops_.Push(text);
  if (out.stopped) {
    stopped_ = true;
    stop_string_ = stops_.stop(*out.stopped);
  }
  return std::move(out.text);
}

std::string TextSink::Rest() {
  if (flushed_) return {};
  flushed_ = true;
  std::string text = Match(detokenizer_.Flush());
  if (!stopped_) text += stops_.Flush();
  return text;
}

ResponseSink::Next TextSink::OnToken(const Token& token) {
  if (!token.saved) {
    CountToken();
    if (holds_.ticket != nullptr) holds_.ticket->Started();
  }
  if (++tokens_ == 1 && options_.prompt_head && !prompt_begun_) {  // a prompt of one token has no scores
    OnPromptScores({}, 0);
  }
  TextDelta delta;
  delta.id = token.id;
  delta.logprob = token.logprob;
  delta.saved = token.saved;
  delta.top.assign(token.top.begin(), token.top.end());
  delta.text = Match(detokenizer_.Push(token.id));
  delta.last = stopped_ || tokens_ == options_.max_tokens;
  if (delta.last) delta.text += Rest();
  const bool more = handlers_.on_delta(std::move(delta));
  return stopped_ || !more ? Next::kStop : Next::kContinue;
}

void TextSink::OnDone(const Completion& completion) {
  if (std::string rest = Rest(); !rest.empty()) {
    TextDelta delta;
    delta.text = std::move(rest);
    delta.last = true;
    handlers_.on_delta(std::move(delta));
  }
  TextResult result;
  switch (completion.reason) {
    case FinishReason::kStopId: {
      result.finish_reason = "stop";
      const auto& own = options_.own_stop_ids;
      if (std::find(own.begin(), own.end(), completion.stop_id) != own.end()) {
        result.stop_id = completion.stop_id;
      }
      break;
    }
    case FinishReason::kStopString:
      result.finish_reason = "stop";
      break;
    case FinishReason::kLength:
      result.finish_reason = "length";
      break;
    case FinishReason::kCancelled:
      result.finish_reason = "cancelled";
      result.error = completion.error;  // who cancelled it, where that was not the client
      if (holds_.deadline != nullptr && holds_.deadline->expired()) {
        result.finish_reason = "error";
        result.error = MakeStatus(absl::StatusCode::kDeadlineExceeded, "the request's time is up");
      }
      break;
    case FinishReason::kError:
      result.finish_reason = "error";
      result.error = completion.error;
      break;
  }
  // The last characters may have completed a stop string when the tokens had ended already.
  if (stopped_ && result.finish_reason == "length") result.finish_reason = "stop";
  if (stopped_ && result.finish_reason == "stop") result.stop_string = stop_string_;
  result.prompt_tokens = completion.prompt_tokens;
  result.completion_tokens = completion.completion_tokens;
  result.cached_tokens = completion.cached_tokens;
  result.image_tokens = completion.image_tokens;
  result.cache = completion.cache;
  result.times = completion.times;
  result.picture_seconds = options_.picture_seconds;
  CountEnd(completion, result.finish_reason);
  holds_ = {};  // whoever hears of the end may send the next request
  handlers_.on_done(result);
}

void TextSink::CountToken() {
  if (options_.metrics == nullptr) return;
  const TimePoint now = options_.clock->Now();
  options_.metrics->generation_tokens.Add();
  if (++counted_ == 1) {
    first_token_ = now;
    options_.metrics->time_to_first_token.Observe(Seconds(now - options_.arrival));
  } else {
    options_.metrics->inter_token_latency.Observe(Seconds(now - last_token_));
  }
  last_token_ = now;
}

void TextSink::CountEnd(const Completion& completion, const std::string& reason) {
  ServerMetrics* metrics = options_.metrics;
  if (metrics == nullptr) return;
  metrics->Finished(reason == "cancelled" ? "abort" : reason);
  metrics->cached_tokens.Add(static_cast<double>(completion.cached_tokens));
  if (reason != "stop" && reason != "length") return;
  metrics->request_latency.Observe(Seconds(options_.clock->Now() - options_.arrival));
  metrics->request_generation_tokens.Observe(static_cast<double>(completion.completion_tokens));
  if (counted_ > 1) {
    metrics->time_per_output_token.Observe(Seconds(last_token_ - first_token_) /
                                           static_cast<double>(counted_ - 1));
  }
}

}  // namespace fulger
