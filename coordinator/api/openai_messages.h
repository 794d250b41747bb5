// OpenAI's `messages` as the frontend's. Internal to the HTTP API.
#pragma once

#include <vector>

#include "base/status.h"
#include "coordinator/api/json_fields.h"
#include "coordinator/api/openai_request.h"

namespace fulger {

// Pictures come as data URLs and are taken apart here, not decoded. Roles: system (or developer), user,
// assistant, tool (or function). A tool's answer gets the name of the call that it answers.
absl::StatusOr<std::vector<PromptMessage>> ParseMessages(const nlohmann::json& messages,
                                                         const OpenAiLimits& limits);

}  // namespace fulger
