// What a request says of its answer's form: tools, tool_choice, parallel_tool_calls, response_format.
// Internal to the HTTP API.
#pragma once

#include <string_view>

#include "base/status.h"
#include "coordinator/api/json_fields.h"
#include "coordinator/api/openai_request.h"

namespace fulger {

// `body` is what `fields` were read from: JSON of tools and schemas keeps the order in which it was sent.
absl::Status ReadAnswerForm(const JsonFields& fields, std::string_view body, OpenAiRequest* out,
                            GenerateInput* input);
// Only the tools, for a prompt without an answer.
absl::Status ReadTools(const JsonFields& fields, std::string_view body, GenerateInput* input);
// Only response_format.
absl::Status ReadResponseFormat(const JsonFields& fields, std::string_view body, GenerateInput* input);

}  // namespace fulger
