#include "coordinator/frontend/prompt_encoder.h"

#include <algorithm>
#include <utility>

#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

ChatMessage ToChatMessage(const PromptMessage& message) {
  ChatMessage out;
  out.role = message.role;
  out.name = message.name;
  for (const PromptPart& part : message.parts) {
    const bool image = part.kind == PromptPart::Kind::kImage;
    out.parts.push_back({.kind = image ? ChatPart::Kind::kImage : ChatPart::Kind::kText, .text = part.text});
  }
  for (const PromptToolCall& call : message.tool_calls) {
    out.tool_calls.push_back({.id = call.id, .name = call.name, .arguments = call.arguments});
  }
  return out;
}

// An error of the library below, as one about `field`.
absl::Status About(const char* field, const absl::Status& status) {
  if (status.code() != absl::StatusCode::kInvalidArgument) return status;
  return WithField(status, field);
}

// A user cannot write the token that ends a message, so each of them is one.
std::vector<int64_t> MessageEnds(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  const auto end = tokenizer.ControlId("<end_of_sentence>");
  std::vector<int64_t> ends;
  for (size_t i = 0; end.ok() && i < ids.size(); ++i) {
    if (ids[i] == *end) ends.push_back(static_cast<int64_t>(i) + 1);
  }
  return ends;
}

}  // namespace

absl::Status PromptEncoder::EncodeMessages(const GenerateInput& input, EncodedPrompt* out) const {
  std::vector<ChatMessage> messages;
  messages.reserve(input.messages.size());
  for (size_t m = 0; m < input.messages.size(); ++m) {
    const std::string& role = input.messages[m].role;
    if (role != "system" && role != "user" && role != "assistant" && role != "tool" && role != "function") {
      return FieldError(fmt::format("messages[{}].role", m),
                        "expected system, user, assistant or tool, found \"{}\"", role);
    }
    for (const PromptPart& part : input.messages[m].parts) {
      if (part.kind != PromptPart::Kind::kImage) continue;
      if (!options_.vision)
        return FieldError(fmt::format("messages[{}].content", m), "this model takes no pictures");
      out->images.push_back(part.image);
    }
    messages.push_back(ToChatMessage(input.messages[m]));
  }
  if (static_cast<int64_t>(out->images.size()) > options_.max_images) {
    return FieldError("messages", "a request may have at most {} pictures, this one has {}",
                      options_.max_images, out->images.size());
  }
  const ChatPrompt prompt{.messages = messages,
                          .tools = input.tools,
                          .add_generation_prompt = input.add_generation_prompt,
                          .continue_final_message = input.continue_final_message};
  const auto pieces = RenderChat(options_.form, prompt);
  if (!pieces.ok()) return About("messages", pieces.status());
  auto ids = EncodePieces(*tokenizer_, *pieces);
  if (!ids.ok()) return About("messages", ids.status());
  out->ids = *std::move(ids);
  return absl::OkStatus();
}

absl::Status PromptEncoder::MakeRoomForPictures(EncodedPrompt* out) const {
  if (!options_.vision) return absl::OkStatus();
  std::vector<int> counts;
  for (size_t i = 0; i < out->images.size(); ++i) {
    const absl::StatusOr<int> count = images_->CountTokens(out->images[i]);
    if (!count.ok()) return WithField(Annotate(count.status(), fmt::format("picture {}", i)), out->field);
    counts.push_back(*count);
    out->image_tokens += *count;
  }
  if (out->images.empty() &&
      std::find(out->ids.begin(), out->ids.end(), options_.image_token) != out->ids.end()) {
    return FieldError(out->field, "token {} stands for a picture, and pictures come in messages only",
                      options_.image_token);
  }
  auto expanded = ExpandPlaceholders(out->ids, options_.image_token, counts);
  if (!expanded.ok()) return About(out->field, expanded.status());
  out->ids = std::move(expanded->ids);
  out->runs = std::move(expanded->runs);
  return absl::OkStatus();
}

absl::StatusOr<EncodedPrompt> PromptEncoder::Encode(const GenerateInput& input) const {
  const int given = (input.messages.empty() ? 0 : 1) + (input.text ? 1 : 0) + (input.ids ? 1 : 0);
  if (given != 1)
    return FieldError("prompt", "expected messages, a text or token ids, found {} of them", given);
  EncodedPrompt out;
  if (input.ids || input.text) out.field = "prompt";
  if (input.ids) {
    for (const int32_t id : *input.ids) {
      if (id < 0 || id >= options_.vocab) {
        return FieldError("prompt", "token ids are from 0 to {}, found {}", options_.vocab - 1, id);
      }
    }
    out.ids = *input.ids;
  } else if (input.text) {
    auto ids = tokenizer_->Encode(*input.text, AddedTokens::kAsText);
    if (!ids.ok()) return About("prompt", ids.status());
    out.ids = *std::move(ids);
  } else {
    RETURN_IF_ERROR(EncodeMessages(input, &out));
  }
  RETURN_IF_ERROR(MakeRoomForPictures(&out));
  const auto keep = static_cast<size_t>(input.truncate_prompt);
  if (input.truncate_prompt > 0 && out.ids.size() > keep) {
    if (!out.runs.empty()) return FieldError("truncate_prompt_tokens", "not together with pictures");
    out.ids.erase(out.ids.begin(), out.ids.end() - static_cast<int64_t>(keep));
  }
  if (!input.messages.empty()) out.borders = MessageEnds(*tokenizer_, out.ids);
  if (out.ids.empty()) return FieldError(out.field, "there is no token in it");
  return out;
}

}  // namespace fulger
