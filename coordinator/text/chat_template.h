// The chat forms of MiniMax-VL-01 and MiniMax-Text-01, as code: messages become pieces, text apart from
// control tokens, so that nothing a user types can become a control token. Joined, the pieces are what the
// checkpoints' jinja templates render. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/text/tokenizer.h"

namespace fulger {

enum class ChatForm { kVl01, kText01 };

// "vl01" or "text01", as --chat-template takes them.
absl::StatusOr<ChatForm> ParseChatForm(std::string_view name);
std::string_view ChatFormName(ChatForm form);
// By config.json's model_type (top level).
absl::StatusOr<ChatForm> ChatFormOfModelType(std::string_view model_type);

struct ChatPart {
  enum class Kind { kText, kImage };
  Kind kind = Kind::kText;
  std::string text;  // of a text part
};

struct ChatToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON text, inserted as it is
};

struct ChatMessage {
  // system, user, assistant, function; "tool" is read as function. Other roles render nothing, as in the
  // templates.
  std::string role;
  std::string name;  // of a function result; where empty, found by tool_call_id among the calls before
  std::string tool_call_id;
  std::vector<ChatPart> parts;           // a string content is one text part
  std::vector<ChatToolCall> tool_calls;  // of an assistant: written after its parts, as the model writes them
};

struct ChatPrompt {
  std::span<const ChatMessage> messages;
  std::span<const std::string> tools;  // JSON text each; OpenAI's wrapper is taken off
  bool add_generation_prompt = true;
  // The last message, an assistant's, is left open for the model to go on; then add_generation_prompt must be
  // false.
  bool continue_final_message = false;
};

struct PromptPiece {
  enum class Kind { kText, kControl, kImage };
  Kind kind = Kind::kText;
  std::string text;  // of a control token or image: its spelling in the vocabulary

  friend bool operator==(const PromptPiece&, const PromptPiece&) = default;
};

// Neighbouring texts are one piece, since the tokenizer must see them together. INVALID_ARGUMENT names the
// message: a function result without a name or with other than one text part, pictures in the Text-01 form,
// and, in that form, several parts in a system or user message (the template would drop all but the first),
// tools that are no JSON.
absl::StatusOr<std::vector<PromptPiece>> RenderChat(ChatForm form, const ChatPrompt& prompt);

// The pieces as one text, as the jinja template would render it.
std::string JoinPieces(std::span<const PromptPiece> pieces);

// Each image piece yields exactly one <image> id. Text is encoded as text only. NOT_FOUND names a control
// token that the tokenizer lacks.
absl::StatusOr<std::vector<int32_t>> EncodePieces(const Tokenizer& tokenizer,
                                                  std::span<const PromptPiece> pieces);

// SHA-256 (hex) of the checkpoint's own template: chat_template.jinja, else chat_template.json, else
// tokenizer_config.json (the one named "default" where it lists several). NOT_FOUND where it has none.
absl::StatusOr<std::string> TemplateHash(const std::string& dir);
// The form that a template of this hash renders; nullopt where we never saw it: worth a warning.
std::optional<ChatForm> ChatFormOfTemplate(std::string_view hash);

}  // namespace fulger
