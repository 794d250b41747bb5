#include "coordinator/api/openai_messages.h"

#include <map>
#include <utility>

#include "coordinator/frontend/field_error.h"
#include "coordinator/image/data_url.h"

namespace fulger {
namespace {

using nlohmann::json;

struct MessageReader {
  const OpenAiLimits& limits;
  int64_t images = 0;
  std::map<std::string, std::string> called;  // tool_call_id -> function name

  absl::StatusOr<PromptMessage> Read(const json& message, const std::string& path);

 private:
  absl::Status ReadRole(const JsonFields& fields, PromptMessage* out);
  absl::Status ReadContent(const JsonFields& fields, PromptMessage* out);
  absl::Status ReadPart(const json& part, const std::string& path, PromptMessage* out);
  absl::StatusOr<std::string> ReadImage(const json& image, const std::string& path);
  absl::Status ReadToolCalls(const JsonFields& fields, PromptMessage* out);
};

absl::StatusOr<PromptMessage> MessageReader::Read(const json& message, const std::string& path) {
  if (!message.is_object()) return FieldError(path, "expected an object, found {}", JsonKind(message));
  const JsonFields fields(message, path + ".");
  PromptMessage out;
  RETURN_IF_ERROR(ReadRole(fields, &out));
  RETURN_IF_ERROR(fields.String("name", &out.name));
  RETURN_IF_ERROR(ReadContent(fields, &out));
  RETURN_IF_ERROR(ReadToolCalls(fields, &out));
  if (out.parts.empty() && out.tool_calls.empty()) {
    return FieldError(fields.Path("content"), "a message without content");
  }
  if (out.role == "tool") {
    std::string id;
    RETURN_IF_ERROR(fields.String("tool_call_id", &id));
    if (const auto call = called.find(id); out.name.empty() && call != called.end()) out.name = call->second;
    if (out.name.empty()) {
      return FieldError(fields.Path("tool_call_id"),
                        "\"{}\" is the id of no call before, and there is no name", id);
    }
  }
  return out;
}

absl::Status MessageReader::ReadRole(const JsonFields& fields, PromptMessage* out) {
  RETURN_IF_ERROR(fields.String("role", &out->role));
  if (out->role == "developer") out->role = "system";
  if (out->role == "function") out->role = "tool";
  for (const char* known : {"system", "user", "assistant", "tool"}) {
    if (out->role == known) return absl::OkStatus();
  }
  return FieldError(fields.Path("role"), "expected system, user, assistant or tool, found \"{}\"", out->role);
}

absl::Status MessageReader::ReadContent(const JsonFields& fields, PromptMessage* out) {
  const json* content = fields.Find("content");
  if (content == nullptr) return absl::OkStatus();
  if (content->is_string()) {
    out->parts.push_back({.kind = PromptPart::Kind::kText, .text = content->get<std::string>(), .image = {}});
    return absl::OkStatus();
  }
  if (!content->is_array()) {
    return FieldError(fields.Path("content"), "expected a string or a list of parts, found {}",
                      JsonKind(*content));
  }
  for (size_t i = 0; i < content->size(); ++i) {
    RETURN_IF_ERROR(ReadPart((*content)[i], fmt::format("{}[{}]", fields.Path("content"), i), out));
  }
  return absl::OkStatus();
}

absl::Status MessageReader::ReadPart(const json& part, const std::string& path, PromptMessage* out) {
  PromptPart read;
  if (part.is_string()) {  // some clients send lists of plain strings
    read.text = part.get<std::string>();
    out->parts.push_back(std::move(read));
    return absl::OkStatus();
  }
  if (!part.is_object()) return FieldError(path, "expected an object, found {}", JsonKind(part));
  const JsonFields fields(part, path + ".");
  std::string type;
  RETURN_IF_ERROR(fields.String("type", &type));
  if (type == "text") {
    if (fields.Find("text") == nullptr) return FieldError(fields.Path("text"), "missing");
    RETURN_IF_ERROR(fields.String("text", &read.text));
  } else if (type == "image_url") {
    const json* image = fields.Find("image_url");
    if (image == nullptr) return FieldError(fields.Path("image_url"), "missing");
    read.kind = PromptPart::Kind::kImage;
    ASSIGN_OR_RETURN(read.image, ReadImage(*image, fields.Path("image_url")));
  } else {
    return FieldError(fields.Path("type"), "expected text or image_url, found \"{}\"", type);
  }
  out->parts.push_back(std::move(read));
  return absl::OkStatus();
}

absl::StatusOr<std::string> MessageReader::ReadImage(const json& image, const std::string& path) {
  std::string url;
  if (image.is_string()) {
    url = image.get<std::string>();
  } else if (image.is_object()) {
    RETURN_IF_ERROR(JsonFields(image, path + ".").String("url", &url));
  } else {
    return FieldError(path, "expected an object with a url, found {}", JsonKind(image));
  }
  if (++images > limits.max_images) {
    return FieldError(path, "a request may have at most {} pictures", limits.max_images);
  }
  if (!IsDataUrl(url)) {
    return FieldError(path,
                      "expected a data URL (data:image/png;base64,...): this server fetches no pictures");
  }
  absl::StatusOr<DataUrl> data = ParseDataUrl(url, limits.max_image_bytes);
  if (!data.ok()) return FieldError(path, "{}", Message(data.status()));
  return std::move(data->bytes);
}

absl::Status MessageReader::ReadToolCalls(const JsonFields& fields, PromptMessage* out) {
  const json* calls = fields.Find("tool_calls");
  if (calls == nullptr) return absl::OkStatus();
  const std::string path = fields.Path("tool_calls");
  if (!calls->is_array()) return FieldError(path, "expected a list, found {}", JsonKind(*calls));
  if (calls->empty()) return absl::OkStatus();
  if (out->role != "assistant") return FieldError(path, "only an assistant's message has these");
  for (size_t i = 0; i < calls->size(); ++i) {
    const json& call = (*calls)[i];
    const std::string at = fmt::format("{}[{}]", path, i);
    if (!call.is_object()) return FieldError(at, "expected an object, found {}", JsonKind(call));
    const json* function = JsonFields(call).Find("function");
    if (function == nullptr || !function->is_object()) return FieldError(at + ".function", "missing");
    const JsonFields inner(*function, at + ".function.");
    PromptToolCall read;
    RETURN_IF_ERROR(JsonFields(call, at + ".").String("id", &read.id));
    RETURN_IF_ERROR(inner.String("name", &read.name));
    if (read.name.empty()) return FieldError(inner.Path("name"), "missing");
    RETURN_IF_ERROR(inner.String("arguments", &read.arguments));
    called[read.id] = read.name;
    out->tool_calls.push_back(std::move(read));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<PromptMessage>> ParseMessages(const json& messages, const OpenAiLimits& limits) {
  if (!messages.is_array()) return FieldError("messages", "expected a list, found {}", JsonKind(messages));
  if (messages.empty()) return FieldError("messages", "expected at least one message");
  MessageReader reader{.limits = limits, .images = 0, .called = {}};
  std::vector<PromptMessage> out;
  out.reserve(messages.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    ASSIGN_OR_RETURN(PromptMessage message, reader.Read(messages[i], fmt::format("messages[{}]", i)));
    out.push_back(std::move(message));
  }
  return out;
}

}  // namespace fulger
