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
// A request that asks what of its prompt is cached: `request` (a JSON body; its answer is cut to one token,
// and a stream becomes one piece), or, where that is empty, `prompt` as a chat's first message.
// INVALID_ARGUMENT if it is no JSON object or there is neither.
struct CacheQuestion {
  std::string path;
  std::string body;
};
absl::StatusOr<CacheQuestion> MakeCacheQuestion(const std::string& request, const std::string& prompt);
// "96 of 120 prompt tokens were cached: why no more", from the answer to such a request.
absl::StatusOr<std::string> CacheAnswerText(std::string_view json);
// The message inside {"error": {...}}, or the text itself.
std::string ErrorText(std::string_view body);
// The id of the first of /v1/models.
absl::StatusOr<std::string> FirstModel(const HttpClient& client);

}  // namespace fulger
