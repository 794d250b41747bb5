#include "coordinator/bench/load.h"

namespace fulger::bench {
namespace {

using nlohmann::json;

int64_t Count(const json& object, const char* field) {
  const auto found = object.find(field);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

const json& Field(const json& object, const char* field) {
  static const json kNone;
  const auto found = object.is_object() ? object.find(field) : object.end();
  return object.is_object() && found != object.end() ? *found : kNone;
}

}  // namespace

void AnswerReader::OnUsage(const json& usage, bool final) {
  const int64_t completion = Count(usage, "completion_tokens");
  record_->prompt_tokens = Count(usage, "prompt_tokens");
  record_->cached_tokens = Count(Field(usage, "prompt_tokens_details"), "cached_tokens");
  if (final) {
    record_->has_usage = true;
    record_->completion_tokens = completion;
    record_->total_tokens = Count(usage, "total_tokens");
    return;
  }
  record_->running = true;
  if (completion > record_->running_tokens + 1)
    record_->lost_tokens += completion - record_->running_tokens - 1;
  record_->running_tokens = completion;
}

bool AnswerReader::OnEvent(std::string_view data, double now) {
  if (done_) return false;
  if (data == "[DONE]") {
    done_ = true;
    return false;
  }
  const json event = json::parse(data, nullptr, /*allow_exceptions=*/false);
  if (!event.is_object()) {
    record_->error = "an event is no JSON object: " + std::string(data.substr(0, 200));
    return false;
  }
  if (const json& error = Field(event, "error"); !error.is_null()) {
    const json& message = Field(error, "message");
    record_->error = message.is_string() ? message.get<std::string>() : error.dump();
    return true;  // [DONE] follows
  }
  const json& choices = Field(event, "choices");
  const json& usage = Field(event, "usage");
  if (!choices.is_array() || choices.empty()) {
    if (usage.is_object()) OnUsage(usage, /*final=*/true);
    return true;
  }
  const json& choice = choices[0];
  const json& delta = Field(choice, "delta");
  const json& text = delta.is_object() ? Field(delta, "content") : Field(choice, "text");
  const json& reason = Field(choice, "finish_reason");
  if (reason.is_string()) record_->finish_reason = reason;
  if (text.is_string()) text_ += text.get_ref<const std::string&>();
  const int64_t before = record_->running_tokens;
  if (usage.is_object()) OnUsage(usage, /*final=*/false);
  // Running usage knows which events bring a token; without it, those with text do (and a call of a tool).
  const bool token =
      record_->running
          ? record_->running_tokens > before
          : (text.is_string() && (!text.get_ref<const std::string&>().empty() || !reason.is_string())) ||
                Field(delta, "tool_calls").is_array();
  if (token) record_->tokens.push_back(now);
  return true;
}

}  // namespace fulger::bench
