// What both edges (HTTP, gRPC) and the command line share: a conversation or a text with pictures becomes an
// EngineRequest (template, tokens, tiles, placeholder runs), and tokens become text again (detokeniser, stop
// strings, logprobs). Knows no wire format.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/types.h"
#include "coordinator/frontend/admission.h"
#include "coordinator/frontend/answer_form.h"
#include "fulger/v1/step.pb.h"

namespace fulger {

struct PromptPart {
  enum class Kind : uint8_t { kText, kImage } kind = Kind::kText;
  std::string text;   // kText
  std::string image;  // kImage: the encoded picture (JPEG, PNG, WebP, GIF)
};
struct PromptToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON
};
struct PromptMessage {
  std::string role;  // system | user | assistant | tool (or function)
  std::vector<PromptPart> parts;
  std::string name;                        // of the tool whose result this is
  std::vector<PromptToolCall> tool_calls;  // of an assistant
};

inline constexpr int32_t kMaxPriority = 1'000'000;  // and as much below 0

// Exactly one of messages, text, ids is used.
struct GenerateInput {
  std::string id;
  std::string request{};  // as EngineRequest's
  TimePoint arrival{};    // when the request reached the server; zero: when Generate is called
  TimePoint deadline{};   // when it is ended with DEADLINE_EXCEEDED; zero: never
  ClientQuota client;
  std::vector<PromptMessage> messages;
  std::vector<std::string> tools;   // JSON objects
  std::optional<std::string> text;  // raw completion prompt; special tokens in it are text
  std::optional<std::vector<int32_t>> ids;
  v1::SamplingParams sampling;  // max_tokens 0: all the context that is left; stop_ids: additional ones
  bool ignore_eos = false;
  std::optional<uint64_t> seed;   // none: one is drawn at admission
  std::vector<std::string> stop;  // strings
  bool include_stop = false;
  bool skip_special_tokens = true;
  bool add_generation_prompt = true;    // messages: end with the head of an answer
  bool continue_final_message = false;  // messages: the last one is left open, and the answer goes on in it
  std::optional<AnswerForm> form;       // none: any text
  int64_t truncate_prompt = 0;          // keep only so many of the last prompt tokens; 0: all
  int32_t priority = 0;                 // smaller is sooner
  bool use_prefix_cache = true;         // false: everything is computed, and nothing kept
  int64_t copies = 0;                   // other answers to the same prompt that are asked for with it
};

// Known before the first token.
struct PromptInfo {
  int64_t prompt_tokens = 0;
  int64_t image_tokens = 0;
};

struct TextDelta {
  std::string text;  // complete UTF-8; may be empty while a character or a stop string is open
  int32_t id = -1;   // -1: text flushed at the end without a token
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> top;
  bool saved = false;  // an earlier server generated it: with others, at once
  bool last = false;   // nothing but on_done follows, at once: an edge may put both into one message
};
// A token of the prompt, with sampling.prompt_logprobs.
struct PromptToken {
  int32_t id = -1;
  std::string text;  // complete UTF-8, as in TextDelta
  int32_t rank = 0;  // 1: the most likely at its place; 0: the first token, which has no score
  float logprob = 0;
  std::vector<std::pair<int32_t, float>> top;
};
struct TextResult {
  std::string finish_reason;  // "stop" | "length" | "cancelled" | "error"
  std::string stop_string;    // which one matched, if any
  int32_t stop_id = -1;       // one of the request's stop ids; -1 for the model's own end
  absl::Status error;
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0, image_tokens = 0;
  CacheReport cache;  // why no more was cached
  RequestTimes times;
  double picture_seconds = 0;  // decoding and cutting, before it was queued
};
struct TextHandlers {
  // On the caller's thread, before Generate returns and before everything else. May be empty.
  std::function<void(const PromptInfo&)> on_prompt;
  // Engine thread; must not block. False: what there is is enough, and the answer ends as with a stop string.
  std::function<bool(TextDelta&&)> on_delta;
  // The prompt's tokens in order, in pieces, before the first on_delta. May be empty.
  std::function<void(std::vector<PromptToken>&&)> on_prompt_tokens{};
  std::function<void(const TextResult&)> on_done;  // exactly once, last
};

struct ModelCard {
  std::string id;  // served model name
  std::string model_type;
  bool vision = false;
  int64_t max_context = 0;
  int64_t vocab = 0;
};

class Frontend {
 public:
  virtual ~Frontend() = default;
  // Runs on the caller's thread and may take long (decoding pictures): edges call it from their pool.
  // Handlers run only if this returns OK, perhaps before it does. INVALID_ARGUMENT: FieldOf (field_error.h)
  // gives the field at fault; OUT_OF_RANGE: the prompt does not fit the context; RESOURCE_EXHAUSTED:
  // overload, with RetryAfterOf; DEADLINE_EXCEEDED: too late already; UNAVAILABLE: no replica, or stopping.
  virtual absl::Status Generate(GenerateInput input, TextHandlers handlers) = 0;
  virtual bool Cancel(const std::string& id) = 0;
  virtual absl::StatusOr<std::vector<int32_t>> Tokenize(const GenerateInput& input) const = 0;
  virtual absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& ids) const = 0;
  virtual std::string TokenText(int32_t id) const = 0;  // bytes of one token, for logprobs
  virtual const ModelCard& card() const = 0;
  virtual EngineStats Stats() const = 0;
};

class SavedRequests;
class ServerMetrics;

struct FrontendOptions {
  std::string model_dir;
  std::string model_name;              // default: the folder's name
  std::string chat_template = "auto";  // auto (by the model's type) | vl01 | text01
  int64_t max_context = 131072;
  int64_t max_image_bytes = int64_t{32} << 20;
  int64_t max_image_pixels = int64_t{64} << 20;
  int64_t max_images = 64;
  int64_t image_cache_bytes = int64_t{256} << 20;  // of prepared pictures, for conversations that resend them
  AdmissionLimits admission;
  // Where requests that an earlier server began are, and running ones may go; null: neither. Outlives the
  // frontend.
  SavedRequests* saved = nullptr;
  ServerMetrics* metrics = nullptr;  // may be null; outlives the frontend
  const Clock* clock = nullptr;      // null: the steady clock
};
// OK while the server can generate; else UNAVAILABLE says why: stopping, no replica, a probe step that
// failed, or no step (an idle replica runs probes) for `stall_timeout`.
absl::Status CheckReady(const EngineStats& stats, Duration stall_timeout);
// Sets the gauges that show the engine's state.
void ExportStats(const EngineStats& stats, ServerMetrics* metrics);

// Reads config.json, the tokenizer's and the picture processor's files. The engine must outlive the frontend.
absl::StatusOr<std::unique_ptr<Frontend>> MakeFrontend(const FrontendOptions& options, Engine* engine);

}  // namespace fulger
