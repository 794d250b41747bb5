// One request of /v1/chat/completions or /v1/completions while it is answered: submits its choices, gathers
// or streams their tokens, cancels them when the client leaves. Internal to the HTTP API.
//
// Threads: Start runs on the API's pool; tokens come on the engine's thread; the client leaves on a thread of
// the HTTP server. The engine's handlers keep the object alive.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/api/http.h"
#include "coordinator/api/openai_answer.h"
#include "coordinator/api/openai_request.h"
#include "coordinator/api/request_log.h"
#include "coordinator/api/tool_calls.h"
#include "coordinator/frontend/frontend.h"

namespace fulger {

class OpenAiGeneration : public std::enable_shared_from_this<OpenAiGeneration> {
 public:
  // `headers` go onto the answer; the writer's id is unique, and the choices' ids are made from it. `line`
  // says whose request it is: completed and logged at the end.
  OpenAiGeneration(OpenAiRequest request, AnswerWriter writer, HttpHeaders headers, Frontend* frontend,
                   std::shared_ptr<HttpResponder> responder, RequestLogLine line);

  // Submits everything and returns; on an error nothing is left running, the error has been answered, and is
  // returned for the metrics.
  absl::Status Start(TimePoint arrival);

 private:
  struct Choice {
    std::string id;
    size_t prompt = 0;
    bool begun = false;                // something was streamed
    std::string text;                  // not streamed yet, or all of it
    std::vector<ToolCallDelta> calls;  // as `text`
    bool called = false;
    bool enough = false;  // the one call that was allowed is complete
    int64_t tokens = 0;
    size_t top = 0;  // log probabilities besides the token's own
    std::optional<ToolCallParser> tools;
    std::optional<LogprobsJson> logprobs;
    std::optional<PromptLogprobsJson> prompt_logprobs;
    std::optional<TextResult> result;
    RequestTimes times;  // however it ended
    double picture_seconds = 0;
  };

  TextHandlers Handlers(size_t choice);
  void OnPromptTokens(size_t choice, const std::vector<PromptToken>& tokens);
  bool OnDelta(size_t choice, TextDelta&& delta);
  void OnDone(size_t choice, const TextResult& result);
  void Fail(const absl::Status& status);
  void CancelAll();

  // With mu_ held.
  void EnsureBegun();
  void Add(Choice* choice, ToolCallParser::Output output);
  AnswerPart Part(size_t choice);
  // `at_once`: no client can have read as fast.
  void StreamPart(size_t choice, bool at_once = false);
  void Complete();
  Usage UsageNow() const;
  RequestLogLine LineNow() const;

  const AnswerWriter writer_;
  const HttpHeaders headers_;
  Frontend* const frontend_;
  const std::shared_ptr<HttpResponder> responder_;
  // Apart from the rest, for the HTTP server's threads.
  struct Leaving {
    std::atomic<bool> gone{false};
    std::vector<std::string> ids;
  };
  const std::shared_ptr<Leaving> leaving_ = std::make_shared<Leaving>();

  const RequestLogLine line_;
  TimePoint arrival_{};

  std::mutex mu_;
  OpenAiRequest request_;
  std::vector<Choice> choices_;
  std::vector<PromptInfo> prompts_;
  size_t done_ = 0;
  bool begun_ = false, finished_ = false;
};

}  // namespace fulger
