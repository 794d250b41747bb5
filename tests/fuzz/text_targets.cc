#include <algorithm>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/detokenizer.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/utf8.h"
#include "tests/fuzz/fuzz_target.h"

namespace fulger {
namespace {

const Tokenizer& GoldenTokenizer() {
  static const Tokenizer tokenizer = [] {
    auto loaded = Tokenizer::Load("tests/golden/text/tokenizer_split");
    FULGER_CHECK(loaded.ok(), "{}", Message(loaded.status()));
    return *std::move(loaded);
  }();
  return tokenizer;
}

// Lines, taken as fields of a conversation.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : left_(bytes) {}
  bool done() const { return left_.empty(); }
  std::string Next() {
    const size_t end = std::min(left_.find('\n'), left_.size());
    std::string field = ReplaceInvalidUtf8(left_.substr(0, end));
    left_.remove_prefix(std::min(end + 1, left_.size()));
    return field;
  }

 private:
  std::string_view left_;
};

}  // namespace

// Whatever a user types stays text: control ids come from control pieces only.
void FuzzChatTemplate(std::string_view bytes) {
  Fields fields(bytes);
  std::vector<ChatMessage> messages;
  std::vector<std::string> tools;
  const std::string flags = fields.Next();
  if (flags.find('t') != std::string::npos) tools.push_back(fields.Next());
  while (!fields.done()) {
    ChatMessage message;
    message.role = fields.Next();
    for (std::string text = fields.Next(); !text.empty(); text = fields.Next()) {
      if (text == "[image]") {
        message.parts.push_back({.kind = ChatPart::Kind::kImage, .text = {}});
      } else if (text == "[call]") {
        message.tool_calls.push_back({.id = "call-1", .name = fields.Next(), .arguments = fields.Next()});
      } else {
        message.parts.push_back({.kind = ChatPart::Kind::kText, .text = std::move(text)});
      }
    }
    messages.push_back(std::move(message));
  }
  const bool go_on = flags.find('c') != std::string::npos;
  const ChatPrompt prompt{.messages = messages,
                          .tools = tools,
                          .add_generation_prompt = !go_on && flags.find('g') != std::string::npos,
                          .continue_final_message = go_on};
  for (const ChatForm form : {ChatForm::kVl01, ChatForm::kText01}) {
    const auto pieces = RenderChat(form, prompt);
    if (!pieces.ok()) {
      FULGER_CHECK(pieces.status().code() == absl::StatusCode::kInvalidArgument, "{}",
                   Message(pieces.status()));
      continue;
    }
    const auto control = std::ranges::count_if(
        *pieces, [](const PromptPiece& p) { return p.kind != PromptPiece::Kind::kText; });
    const auto ids = EncodePieces(GoldenTokenizer(), *pieces);
    if (!ids.ok()) continue;  // a control token that this vocabulary lacks
    const auto special =
        std::ranges::count_if(*ids, [](int32_t id) { return GoldenTokenizer().IsSpecial(id); });
    FULGER_CHECK(special <= control, "{} control pieces became {} special ids", control, special);
  }
}

// Every byte comes back, and a detokenizer that is fed one id at a time says the same.
void FuzzTokenizerText(std::string_view bytes) {
  const std::string text = ReplaceInvalidUtf8(bytes);
  const Tokenizer& tokenizer = GoldenTokenizer();
  FULGER_CHECK(tokenizer.Encode(bytes, AddedTokens::kAsText).ok() == !FindInvalidUtf8(bytes).has_value(),
               "UTF-8 is refused or broken bytes are taken");
  for (const AddedTokens added : {AddedTokens::kAsText, AddedTokens::kParse}) {
    const auto ids = tokenizer.Encode(text, added);
    FULGER_CHECK(ids.ok(), "{}", Message(ids.status()));
    const std::string back = tokenizer.Decode(*ids, /*skip_special_tokens=*/false);
    FULGER_CHECK(back == text, "{} bytes came back as {}", text.size(), back.size());
  }
}

void FuzzTokenizerFile(std::string_view bytes) {
  const auto tokenizer = Tokenizer::Parse(bytes);
  if (!tokenizer.ok()) return;
  const auto ids = tokenizer->Encode("The lightning 3 times, \xE2\x9A\xA1 <image>", AddedTokens::kParse);
  if (ids.ok()) (void)tokenizer->Decode(*ids, true);
}

}  // namespace fulger
