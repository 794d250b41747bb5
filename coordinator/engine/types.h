// What enters and leaves the engine: prepared requests in, tokens out. No text, no HTTP, no protobuf
// services.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/blocks/cache_report.h"
#include "coordinator/scheduler/token_mask.h"
#include "fulger/v1/saved.pb.h"
#include "fulger/v1/step.pb.h"

namespace fulger {

// Decoded, resized and cut: what the vision stage needs, and nothing else. Immutable and shared between
// requests.
struct PreparedImage {
  std::string key;             // SHA-256 (32 bytes) of the tiles and the original size
  std::vector<uint8_t> tiles;  // [n, S, S, 3]
  int64_t tile_count = 0;
  int64_t height = 0;  // original
  int64_t width = 0;
  int64_t tokens = 0;  // packed feature rows = placeholder ids in the prompt
};

// The placeholder run of one picture: ids[position .. position + image->tokens) are the image token.
struct ImageSpan {
  int64_t position = 0;
  std::shared_ptr<const PreparedImage> image;
};

// What an answer must look like, and how far it has come. Called by one thread at a time, not always the
// same.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // Goes on by the token `id`, which the last mask allowed. The mask of the token behind it: some token is
  // always allowed, or a stop id. May take milliseconds.
  virtual absl::StatusOr<std::shared_ptr<const TokenMask>> Advance(int32_t id) = 0;
};

struct EngineRequest {
  std::string id;               // unique among running requests
  std::string request{};        // the client's own name for it, which several may share: for errors and logs
  std::vector<int32_t> prompt;  // expanded ids, not empty
  std::vector<ImageSpan> images;  // ascending, not overlapping
  v1::SamplingParams sampling;    // seed already chosen, max_tokens > 0, stop ids filled in
  TimePoint arrival{};
  std::shared_ptr<TokenConstraint> constraint{};  // null: any tokens
  std::shared_ptr<const TokenMask> first_mask{};  // with a constraint: of the first token
  int32_t priority = 0;                           // smaller is sooner; see coordinator/scheduler
  std::vector<int64_t> borders;  // where messages end in the prompt, ascending: worth an anchor
  bool use_anchors = true;       // false: neither continues from an anchor nor leaves any
  // SavedRequest's; empty: it is neither saved when the engine is suspended nor goes on.
  std::string identity{};
  std::shared_ptr<const v1::SavedRequest> saved{};  // an earlier process began it: the seed is from there
  int64_t copies = 0;  // others with the same prompt that come with it (n > 1): they run it once
};

struct Token {
  int32_t id = 0;
  float logprob = 0;
  bool saved = false;  // an earlier process generated it
  std::span<const std::pair<int32_t, float>>
      top;  // (id, logprob); empty unless asked for; valid during the call
};

enum class FinishReason : uint8_t { kStopId, kStopString, kLength, kCancelled, kError };

// Where a request's time went, in seconds; a phase that was never reached is 0, and they do not overlap.
struct RequestTimes {
  double queue = 0;    // arrival to the first plan that names it
  double prefill = 0;  // from there to the first token
  double decode = 0;   // from there to the last one
  double total = 0;    // arrival to the end
};

struct Completion {
  FinishReason reason = FinishReason::kStopId;
  int32_t stop_id = -1;  // with kStopId
  absl::Status error;    // with kError
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;  // tokens delivered to the sink
  int64_t cached_tokens = 0;      // of the prompt: not run, but continued from an anchor
  int64_t image_tokens = 0;
  CacheReport cache;
  RequestTimes times;
};

// Where a request's tokens go. Called on the engine thread only, in order, and must not block: a slow client
// is the sink's own problem. The engine keeps the sink alive until OnDone has returned.
class ResponseSink {
 public:
  enum class Next : uint8_t { kContinue, kStop };

  virtual ~ResponseSink() = default;
  // kStop: a stop string was found; the engine ends the sequence and calls OnDone(kStopString).
  // A stop id itself is not delivered here.
  virtual Next OnToken(const Token& token) = 0;
  // With sampling.prompt_logprobs: the prompt's tokens from the second on, before the first OnToken. Those
  // from index `first` on are new.
  virtual void OnPromptScores(const v1::PromptScores& /*scores*/, int /*first*/) {}
  // Exactly once, last.
  virtual void OnDone(const Completion& completion) = 0;
};

}  // namespace fulger
