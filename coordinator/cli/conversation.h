// A conversation in the form of the chat API, and what comes back from it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/cli/http_client.h"

namespace fulger {

// "data:image/jpeg;base64,...": the type is told by the file's first bytes. INVALID_ARGUMENT if they are of
// no picture.
absl::StatusOr<std::string> PictureDataUrl(const std::string& path);
// The same of bytes whose type is known: "image/png".
std::string EncodeDataUrl(std::string_view type, std::string_view bytes);

class Conversation {
 public:
  // Pictures (data URLs) stand before the text.
  void AddUser(const std::string& text, const std::vector<std::string>& pictures);
  void AddAssistant(const std::string& text);
  void DropLast();
  void Clear();
  // The body of POST /v1/chat/completions, streamed. max_tokens 0 and an absent temperature or seed are left
  // to the server.
  std::string RequestJson(const std::string& model, int max_tokens, std::optional<double> temperature,
                          std::optional<uint64_t> seed) const;

 private:
  std::vector<std::string> messages_;  // JSON objects
};

// One event of the stream.
struct ChatEvent {
  std::string text;
  std::string finish_reason;
  std::string error;
};
ChatEvent ParseChatEvent(std::string_view json);
// The message inside {"error": {...}}, or the text itself.
std::string ErrorText(std::string_view body);
// The id of the first of /v1/models.
absl::StatusOr<std::string> FirstModel(const HttpClient& client);

}  // namespace fulger
