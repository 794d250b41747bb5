// The request bodies of OpenAI's API, as inputs of the frontend. Every field is honoured, refused by name, or
// known not to change the answer; null means absent; unknown fields are ignored.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/frontend/frontend.h"

namespace fulger {

struct OpenAiLimits {
  int64_t vocab = 0;
  int64_t max_choices = 128;  // prompts times n
  uint64_t max_image_bytes = uint64_t{32} << 20;
  int64_t max_images = 64;
};

struct OpenAiRequest {
  bool chat = false;
  std::string model;                   // empty: whichever is served
  std::vector<GenerateInput> prompts;  // without ids and arrival; one for chat
  int64_t n = 1;                       // answers to each
  bool stream = false;
  bool include_usage = false;          // a last chunk with the usage
  bool continuous_usage = false;       // the usage so far in every chunk
  bool one_call = false;               // at most one call of a tool
  bool explain_cache = false;          // ours: usage says why the prefix cache gave no more
  bool echo = false;                   // completions: the prompt before the answer
  int64_t prompt_logprobs = -1;        // the prompt's own and so many of the likeliest; -1: none
  std::vector<std::string> ignored{};  // fields of the body that mean nothing here
};

// INVALID_ARGUMENT with the field at fault (FieldOf).
absl::StatusOr<OpenAiRequest> ParseChatRequest(std::string_view body, const OpenAiLimits& limits);
absl::StatusOr<OpenAiRequest> ParseCompletionRequest(std::string_view body, const OpenAiLimits& limits);

struct TokenizeRequest {
  std::string model;
  GenerateInput input;
  bool return_token_strings = false;
};
absl::StatusOr<TokenizeRequest> ParseTokenizeRequest(std::string_view body, const OpenAiLimits& limits);

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;
};
absl::StatusOr<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body, const OpenAiLimits& limits);

}  // namespace fulger
