// The text half of config.json: both schemas and the migration rules between them. Internal to model/.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/status.h"
#include "model/config.h"

namespace fulger {

struct ParsedText {
  TextConfig text;
  bool native_schema = false;
};
// `path` names the object in messages: "text_config", or empty when the text model is the whole file.
absl::StatusOr<ParsedText> ParseTextConfig(const nlohmann::json& json, const std::string& path);

}  // namespace fulger
