#include "coordinator/api/batch_file.h"

#include <unordered_set>
#include <utility>

#include "coordinator/api/json_fields.h"
#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

using nlohmann::json;

constexpr size_t kMaxErrors = 100;

absl::StatusOr<BatchLine> ParseLine(std::string_view text, std::string_view endpoint) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(text));
  const JsonFields f(object);
  BatchLine line;
  std::string method, url;
  RETURN_IF_ERROR(f.String("custom_id", &line.custom_id));
  RETURN_IF_ERROR(f.String("method", &method));
  RETURN_IF_ERROR(f.String("url", &url));
  if (line.custom_id.empty()) return FieldError("custom_id", "missing");
  if (method != "POST") return FieldError("method", "expected POST, found \"{}\"", method);
  if (url != endpoint)
    return FieldError("url", "expected the batch's endpoint, {}, found \"{}\"", endpoint, url);
  const json* body = f.Find("body");
  if (body == nullptr || !body->is_object()) return FieldError("body", "expected an object");
  bool stream = false;
  RETURN_IF_ERROR(JsonFields(*body, "body.").Bool("stream", &stream));
  if (stream) return FieldError("body.stream", "a batch has no streams");
  line.body = nlohmann::ordered_json::parse(text).at("body").dump();
  return line;
}

}  // namespace

BatchInput ParseBatchFile(std::string_view content, std::string_view endpoint) {
  BatchInput input;
  json errors = json::array();
  std::unordered_set<std::string> ids;
  const auto add_error = [&](const char* code, int64_t number, const std::string& message, json param) {
    if (errors.size() >= kMaxErrors) return;
    errors.push_back({{"code", code},
                      {"line", number == 0 ? json(nullptr) : json(number)},
                      {"message", message},
                      {"param", std::move(param)}});
  };
  for (int64_t number = 1; !content.empty(); ++number) {
    std::string_view text = content.substr(0, content.find('\n'));
    content.remove_prefix(std::min(content.size(), text.size() + 1));
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    absl::StatusOr<BatchLine> line = ParseLine(text, endpoint);
    if (!line.ok()) {
      const auto field = FieldOf(line.status());
      add_error("invalid_request", number, Message(line.status()), field ? json(*field) : json(nullptr));
      continue;
    }
    if (!ids.insert(line->custom_id).second) {
      add_error("duplicate_custom_id", number, "the custom_id \"" + line->custom_id + "\" is there already",
                "custom_id");
      continue;
    }
    line->number = number;
    if (input.lines.size() == kMaxBatchLines) {
      add_error("too_many_requests", number, fmt::format("a batch has at most {} requests", kMaxBatchLines),
                nullptr);
      break;
    }
    input.lines.push_back(*std::move(line));
  }
  if (input.lines.empty() && errors.empty()) add_error("empty_file", 0, "the file has no requests", nullptr);
  if (errors.empty()) return input;
  input.lines.clear();
  input.errors = errors.dump(-1, ' ', false, json::error_handler_t::replace);
  return input;
}

}  // namespace fulger
