#include "coordinator/cli/conversation.h"

#include <openssl/evp.h>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxPictureBytes = uint64_t{64} << 20;

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string_view MediaType(std::string_view bytes) {
  if (bytes.starts_with("\xFF\xD8\xFF")) return "image/jpeg";
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return "image/png";
  if (bytes.starts_with("RIFF") && bytes.substr(0, 12).ends_with("WEBP")) return "image/webp";
  if (bytes.starts_with("GIF8")) return "image/gif";
  return {};
}

// The string at a path of keys and indices, or nothing.
std::string StringAt(const Json& json, const char* pointer) {
  const Json::json_pointer at(pointer);
  return json.contains(at) && json.at(at).is_string() ? json.at(at).get<std::string>() : std::string();
}

}  // namespace

absl::StatusOr<std::string> PictureDataUrl(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxPictureBytes));
  const std::string_view type = MediaType(bytes);
  if (type.empty()) return InvalidArgument("{}: no JPEG, PNG, WebP or GIF", path);
  return EncodeDataUrl(type, bytes);
}

std::string EncodeDataUrl(std::string_view type, std::string_view bytes) {
  std::string base64((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(base64.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  base64.resize(static_cast<size_t>(length));
  return fmt::format("data:{};base64,{}", type, base64);
}

void Conversation::AddUser(const std::string& text, const std::vector<std::string>& pictures) {
  Json content = Json::array();
  for (const std::string& url : pictures) {
    content.push_back({{"type", "image_url"}, {"image_url", {{"url", url}}}});
  }
  content.push_back({{"type", "text"}, {"text", text}});
  messages_.push_back(Dump({{"role", "user"}, {"content", content}}));
}

void Conversation::AddAssistant(const std::string& text) {
  messages_.push_back(Dump({{"role", "assistant"}, {"content", text}}));
}

void Conversation::DropLast() {
  if (!messages_.empty()) messages_.pop_back();
}

void Conversation::Clear() { messages_.clear(); }

std::string Conversation::RequestJson(const std::string& model, int max_tokens,
                                      std::optional<double> temperature, std::optional<uint64_t> seed) const {
  Json request = {{"model", model}, {"stream", true}, {"messages", Json::array()}};
  for (const std::string& message : messages_) request["messages"].push_back(Json::parse(message));
  if (max_tokens > 0) request["max_tokens"] = max_tokens;
  if (temperature.has_value()) request["temperature"] = *temperature;
  if (seed.has_value()) request["seed"] = *seed;
  return Dump(request);
}

ChatEvent ParseChatEvent(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  ChatEvent event;
  if (json.is_discarded()) {
    event.error = fmt::format("the server sent what is no JSON: {}", text);
    return event;
  }
  if (json.contains("error")) {
    event.error = ErrorText(text);
    return event;
  }
  event.text = StringAt(json, "/choices/0/delta/content");
  event.finish_reason = StringAt(json, "/choices/0/finish_reason");
  return event;
}

absl::StatusOr<CacheQuestion> MakeCacheQuestion(const std::string& request, const std::string& prompt) {
  if (request.empty() && prompt.empty()) return InvalidArgument("--prompt or --request is needed");
  Json body = request.empty() ? Json{{"messages", {{{"role", "user"}, {"content", prompt}}}}}
                              : Json::parse(request, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object()) return InvalidArgument("the request is no JSON object");
  for (const char* name :
       {"stream", "stream_options", "max_completion_tokens", "min_tokens", "n", "best_of"}) {
    body.erase(name);
  }
  body["max_tokens"] = 1;
  body["explain_cache"] = true;
  return CacheQuestion{.path = body.contains("messages") ? "/v1/chat/completions" : "/v1/completions",
                       .body = Dump(body)};
}

absl::StatusOr<std::string> CacheAnswerText(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Json::json_pointer total("/usage/prompt_tokens"), details("/usage/prompt_tokens_details");
  if (json.is_discarded() || !json.contains(total) || !json.at(total).is_number_integer() ||
      !json.contains(details)) {
    return DataLoss("the server's answer has no usage: {}", text);
  }
  const Json& cached = json.at(details);
  const std::string why = StringAt(cached, "/cache");
  if (why.empty()) return DataLoss("the server explains no cache: is it older than this program?");
  return fmt::format("{} of {} prompt tokens were cached: {}", cached.value("cached_tokens", int64_t{0}),
                     json.at(total).get<int64_t>(), why);
}

std::string ErrorText(std::string_view body) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_discarded()) {
    if (std::string message = StringAt(json, "/error/message"); !message.empty()) return message;
  }
  return std::string(body);
}

absl::StatusOr<std::string> FirstModel(const HttpClient& client) {
  ASSIGN_OR_RETURN(const ClientResponse response, client.Get("/v1/models"));
  if (response.status != 200) {
    return Unavailable("/v1/models answered {}: {}", response.status, ErrorText(response.body));
  }
  const Json json = Json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  std::string model = StringAt(json, "/data/0/id");
  if (model.empty()) return Unavailable("/v1/models names no model: {}", response.body);
  return model;
}

}  // namespace fulger
