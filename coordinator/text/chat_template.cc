#include "coordinator/text/chat_template.h"

#include <utility>

#include "base/check.h"
#include "coordinator/text/json_dump.h"

namespace fulger {
namespace {

constexpr std::string_view kBegin = "<beginning_of_sentence>";
constexpr std::string_view kEnd = "<end_of_sentence>";
constexpr std::string_view kFunctionCall = "<function_call>";
constexpr std::string_view kImage = "<image>";

class Renderer {
 public:
  Renderer(ChatForm form, const ChatPrompt& prompt) : form_(form), prompt_(prompt) {}

  absl::StatusOr<std::vector<PromptPiece>> Run() {
    if (prompt_.continue_final_message) RETURN_IF_ERROR(CheckContinuation());
    for (at_ = 0; at_ < prompt_.messages.size(); ++at_) RETURN_IF_ERROR(Message(prompt_.messages[at_]));
    if (prompt_.continue_final_message) return std::move(pieces_);
    for (size_t i = 0; i < prompt_.tools.size(); ++i) {
      absl::StatusOr<std::string> tool = DumpTool(prompt_.tools[i]);
      if (!tool.ok()) return Annotate(tool.status(), fmt::format("tools[{}]", i));
      Open("system function_setting=functions\n");
      Text(*tool);
      Close();
    }
    if (prompt_.add_generation_prompt) Open("ai name=assistant\n");
    return std::move(pieces_);
  }

 private:
  absl::Status CheckContinuation() const {
    if (prompt_.add_generation_prompt) {
      return InvalidArgument("continue_final_message and add_generation_prompt exclude each other");
    }
    if (prompt_.messages.empty() || prompt_.messages.back().role != "assistant") {
      return InvalidArgument("continue_final_message: the last message must be the assistant's, found {}",
                             prompt_.messages.empty() ? "none" : prompt_.messages.back().role);
    }
    return absl::OkStatus();
  }

  void Text(std::string_view text) {
    if (text.empty()) return;
    if (pieces_.empty() || pieces_.back().kind != PromptPiece::Kind::kText) {
      pieces_.push_back({PromptPiece::Kind::kText, {}});
    }
    pieces_.back().text += text;
  }
  void Control(std::string_view name) { pieces_.push_back({PromptPiece::Kind::kControl, std::string(name)}); }
  void Open(std::string_view header) {
    Control(kBegin);
    Text(header);
  }
  void Close() {
    Control(kEnd);
    Text("\n");
  }

  absl::Status Message(const ChatMessage& message) {
    if (message.role == "system") {
      Open("system ai_setting=assistant\n");
      RETURN_IF_ERROR(Parts(message, /*several=*/form_ == ChatForm::kVl01));
    } else if (message.role == "user") {
      Open("user name=user\n");
      RETURN_IF_ERROR(Parts(message, /*several=*/form_ == ChatForm::kVl01));
    } else if (message.role == "assistant") {
      Open("ai name=assistant\n");
      RETURN_IF_ERROR(Parts(message, /*several=*/true));
      for (const ChatToolCall& call : message.tool_calls) {
        Control(kFunctionCall);
        Text("```typescript\nfunctions." + call.name + "(" + call.arguments + ")\n```");
      }
      if (prompt_.continue_final_message && at_ + 1 == prompt_.messages.size()) return absl::OkStatus();
    } else if (message.role == "function" || message.role == "tool") {
      RETURN_IF_ERROR(FunctionResult(message));
    } else {
      return absl::OkStatus();
    }
    Close();
    return absl::OkStatus();
  }

  absl::Status Parts(const ChatMessage& message, bool several) {
    if (!several && message.parts.size() > 1) {
      return InvalidArgument("messages[{}]: the {} form takes one text part from the {}, found {} parts", at_,
                             ChatFormName(form_), message.role, message.parts.size());
    }
    for (const ChatPart& part : message.parts) {
      if (part.kind == ChatPart::Kind::kText) {
        Text(part.text);
        continue;
      }
      if (form_ == ChatForm::kText01)
        return InvalidArgument("messages[{}]: the text01 form takes no pictures", at_);
      pieces_.push_back({PromptPiece::Kind::kImage, std::string(kImage)});
    }
    return absl::OkStatus();
  }

  absl::Status FunctionResult(const ChatMessage& message) {
    if (message.parts.size() != 1 || message.parts[0].kind != ChatPart::Kind::kText) {
      return InvalidArgument("messages[{}]: a function result is one text part, found {} parts{}", at_,
                             message.parts.size(), message.parts.size() == 1 ? ", a picture" : "");
    }
    ASSIGN_OR_RETURN(const std::string_view name, FunctionName(message));
    Open("system function_response=functions\n");
    // The template inserts both raw: the result is usually JSON itself.
    Text(fmt::format("{{\"name\": \"{}\", \"response\": {}}}", name, message.parts[0].text));
    return absl::OkStatus();
  }

  absl::StatusOr<std::string_view> FunctionName(const ChatMessage& message) const {
    if (!message.name.empty()) return std::string_view(message.name);
    for (size_t i = at_; i-- > 0 && !message.tool_call_id.empty();) {
      for (const ChatToolCall& call : prompt_.messages[i].tool_calls) {
        if (call.id == message.tool_call_id) return std::string_view(call.name);
      }
    }
    return InvalidArgument(
        "messages[{}]: a function result needs a name, or the tool_call_id of a call before it, found \"{}\"",
        at_, message.tool_call_id);
  }

  const ChatForm form_;
  const ChatPrompt& prompt_;
  size_t at_ = 0;
  std::vector<PromptPiece> pieces_;
};

}  // namespace

absl::StatusOr<ChatForm> ParseChatForm(std::string_view name) {
  for (const ChatForm form : {ChatForm::kVl01, ChatForm::kText01}) {
    if (name == ChatFormName(form)) return form;
  }
  return InvalidArgument("chat template: expected vl01 or text01, found \"{}\"", name);
}

std::string_view ChatFormName(ChatForm form) {
  switch (form) {
    case ChatForm::kVl01:
      return "vl01";
    case ChatForm::kText01:
      return "text01";
  }
  FULGER_CHECK(false, "chat form {}", static_cast<int>(form));
  return {};
}

absl::StatusOr<ChatForm> ChatFormOfModelType(std::string_view model_type) {
  if (model_type == "minimax_vl_01") return ChatForm::kVl01;
  for (const std::string_view text : {"minimax_text_01", "MiniMaxText01", "minimax", "minimax_vl_01_text"}) {
    if (model_type == text) return ChatForm::kText01;
  }
  return InvalidArgument("model_type: no chat form is known for \"{}\"; choose one with --chat-template",
                         model_type);
}

absl::StatusOr<std::vector<PromptPiece>> RenderChat(ChatForm form, const ChatPrompt& prompt) {
  return Renderer(form, prompt).Run();
}

std::string JoinPieces(std::span<const PromptPiece> pieces) {
  std::string text;
  for (const PromptPiece& piece : pieces) text += piece.text;
  return text;
}

absl::StatusOr<std::vector<int32_t>> EncodePieces(const Tokenizer& tokenizer,
                                                  std::span<const PromptPiece> pieces) {
  std::vector<int32_t> ids;
  for (const PromptPiece& piece : pieces) {
    if (piece.kind == PromptPiece::Kind::kText) {
      RETURN_IF_ERROR(tokenizer.Encode(piece.text, AddedTokens::kAsText, &ids));
    } else {
      ASSIGN_OR_RETURN(const int32_t id, tokenizer.ControlId(piece.text));
      ids.push_back(id);
    }
  }
  return ids;
}

}  // namespace fulger
