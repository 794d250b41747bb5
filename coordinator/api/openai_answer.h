// The JSON of answers, written as text: the engine's thread makes one chunk per token, so nothing here builds
// a tree. Pure functions and small builders; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "coordinator/api/http.h"
#include "coordinator/api/tool_calls.h"
#include "coordinator/frontend/frontend.h"

namespace fulger {

// The HTTP answer for an error of ours: 400 and `param` for a field, 404, 429 and 503 with Retry-After, ...
HttpResponse ErrorOf(const absl::Status& status);
// The same as an event amid a stream.
std::string ErrorEvent(const absl::Status& status);
// "invalid", "overload", ...: the label of ServerMetrics::Rejected.
std::string RejectReason(const absl::Status& status);

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0, image_tokens = 0;
  std::string cache;  // why the prefix cache gave no more; empty: nobody asked
};
std::string UsageJson(const Usage& usage);

// Log probabilities of some tokens in OpenAI's form for chat, or the older one for completions.
class LogprobsJson {
 public:
  LogprobsJson(const Frontend* frontend, bool chat) : frontend_(frontend), chat_(chat) {}
  void Add(const TextDelta& delta);
  // Completions with echo: a token of the prompt, with at most `top` of the likeliest.
  void AddPrompt(const PromptToken& token, size_t top);
  // The object, or "null" when nothing was added; then empty again (text offsets go on).
  std::string Take();

 private:
  void AddChat(const TextDelta& delta);
  void AddCompletion(int32_t id, const std::string& text, const float* logprob,
                     std::span<const std::pair<int32_t, float>> top);

  const Frontend* frontend_;
  const bool chat_;
  std::string content_;                           // chat
  std::string tokens_, values_, tops_, offsets_;  // completions
  int64_t offset_ = 0;                            // in characters
};

// The log probabilities of a prompt as vLLM shows them: a list of objects by token id, null for the first.
class PromptLogprobsJson {
 public:
  // Of each token its own and the `top` likeliest.
  PromptLogprobsJson(const Frontend* frontend, int64_t top) : frontend_(frontend), top_(top) {}
  void Add(const PromptToken& token);
  std::string Take() { return "[" + std::exchange(list_, {}) + "]"; }

 private:
  const Frontend* frontend_;
  const int64_t top_;
  std::string list_;
};

// A piece of one choice; what is absent is left out or null as OpenAI does.
struct AnswerPart {
  int64_t index = 0;
  bool role = false;  // chat streams: the first chunk
  std::string text;
  std::vector<ToolCallDelta> calls;
  std::string logprobs = "null";
  std::string prompt_logprobs;      // whole answers; empty: not asked for
  const TextResult* end = nullptr;  // with the last
  bool called = false;              // with the last: tools were called
};

class AnswerWriter {
 public:
  AnswerWriter(bool chat, std::string id, std::string model, int64_t created);

  const std::string& id() const { return id_; }
  // One event of a stream: "data: {...}\n\n". `usage` is UsageJson or empty.
  std::string Chunk(const AnswerPart& part, const std::string& usage) const;
  // The extra chunk with an empty list of choices.
  std::string UsageChunk(const std::string& usage) const;
  // The whole answer.
  std::string Whole(const std::vector<AnswerPart>& choices, const std::string& usage) const;

 private:
  std::string Head(const char* object) const;

  const bool chat_;
  const std::string id_, model_;
  const int64_t created_;
  const std::string chunk_head_;
};

}  // namespace fulger
