#include "coordinator/api/openai_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

int HttpCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kAlreadyExists:
      return 400;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return 401;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

// Codes that clients compare with.
std::string_view ErrorCode(const absl::Status& status) {
  if (status.code() == absl::StatusCode::kOutOfRange) return "context_length_exceeded";
  if (status.code() == absl::StatusCode::kUnauthenticated) return "invalid_api_key";
  if (status.code() == absl::StatusCode::kNotFound) return "model_not_found";
  return {};
}

void AppendLogprob(std::string* out, float value) {
  // JSON has no infinity; this is what OpenAI puts for impossible tokens.
  fmt::format_to(std::back_inserter(*out), "{}", std::isfinite(value) ? value : -9999.0F);
}

void AppendComma(std::string* list) {
  if (!list->empty()) list->push_back(',');
}

int64_t Characters(std::string_view utf8) {
  int64_t n = 0;
  for (const char c : utf8) n += (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
  return n;
}

void AppendToken(std::string* out, const std::string& bytes, float logprob) {
  out->append(R"("token":)");
  AppendJsonString(out, bytes);
  out->append(R"(,"logprob":)");
  AppendLogprob(out, logprob);
  out->append(R"(,"bytes":[)");
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) out->push_back(',');
    fmt::format_to(std::back_inserter(*out), "{}", static_cast<unsigned char>(bytes[i]));
  }
  out->push_back(']');
}

// `"finish_reason":...,"stop_reason":...` of the last part, or a null.
void AppendEnd(std::string* out, const AnswerPart& part) {
  out->append(R"("finish_reason":)");
  if (part.end == nullptr) {
    out->append("null");
    return;
  }
  const bool called = part.called && part.end->finish_reason == "stop";
  AppendJsonString(out, called ? "tool_calls" : part.end->finish_reason);
  out->append(R"(,"stop_reason":)");
  if (!part.end->stop_string.empty()) {
    AppendJsonString(out, part.end->stop_string);
  } else if (part.end->stop_id >= 0) {
    fmt::format_to(std::back_inserter(*out), "{}", part.end->stop_id);
  } else {
    out->append("null");
  }
}

void AppendCalls(std::string* out, const AnswerPart& part, const std::string& id, bool indexed) {
  out->append(R"("tool_calls":[)");
  for (size_t i = 0; i < part.calls.size(); ++i) {
    const ToolCallDelta& call = part.calls[i];
    if (i > 0) out->push_back(',');
    out->push_back('{');
    if (indexed) fmt::format_to(std::back_inserter(*out), R"("index":{},)", call.index);
    if (call.name.empty()) {
      out->append(R"("function":{)");
    } else {
      fmt::format_to(std::back_inserter(*out),
                     R"("id":"call_{}_{}_{}","type":"function","function":{{"name":)",
                     id.substr(id.find('-') + 1), part.index, call.index);
      AppendJsonString(out, call.name);
      out->push_back(',');
    }
    out->append(R"("arguments":)");
    AppendJsonString(out, call.arguments);
    out->append("}}");
  }
  out->push_back(']');
}

// {"role":...,"content":...,"tool_calls":[...]} of a stream.
void AppendDelta(std::string* out, const AnswerPart& part, const std::string& id) {
  out->append(R"("delta":{)");
  if (part.role) out->append(R"("role":"assistant",)");
  // The last chunk has no content unless there is some: it is no token of its own.
  if (part.role || !part.text.empty() || (part.end == nullptr && part.calls.empty())) {
    out->append(R"("content":)");
    AppendJsonString(out, part.text);
    out->push_back(',');
  }
  if (!part.calls.empty()) {
    AppendCalls(out, part, id, /*indexed=*/true);
    out->push_back(',');
  }
  if (out->back() == ',') out->pop_back();
  out->push_back('}');
}

void AppendMessage(std::string* out, const AnswerPart& part, const std::string& id) {
  out->append(R"("message":{"role":"assistant","content":)");
  if (part.text.empty() && !part.calls.empty()) {
    out->append("null");
  } else {
    AppendJsonString(out, part.text);
  }
  if (!part.calls.empty()) {
    out->push_back(',');
    AppendCalls(out, part, id, /*indexed=*/false);
  }
  out->push_back('}');
}

}  // namespace

HttpResponse ErrorOf(const absl::Status& status) {
  HttpResponse response =
      ErrorResponse(HttpCode(status), Message(status), FieldOf(status).value_or(""), ErrorCode(status));
  if (const auto seconds = RetryAfterOf(status)) {
    std::erase_if(response.headers, [](const auto& header) { return header.first == "Retry-After"; });
    response.headers.emplace_back("Retry-After", std::to_string(*seconds));
  }
  // It would take as long again.
  if (response.status == 504) response.headers.emplace_back("x-should-retry", "false");
  return response;
}

std::string ErrorEvent(const absl::Status& status) {
  return "data: " +
         ErrorJson(HttpCode(status), Message(status), FieldOf(status).value_or(""), ErrorCode(status)) +
         "\n\n";
}

std::string RejectReason(const absl::Status& status) {
  switch (HttpCode(status)) {
    case 400:
      return "invalid";
    case 401:
      return "unauthorized";
    case 404:
      return "not_found";
    case 429:
      return "overload";
    case 503:
      return "unavailable";
    case 504:
      return "deadline";
    default:
      return "error";
  }
}

std::string UsageJson(const Usage& u) {
  const std::string cache = u.cache.empty() ? "" : fmt::format(R"(,"cache":"{}")", u.cache);
  return fmt::format(R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                     R"("prompt_tokens_details":{{"cached_tokens":{},"image_tokens":{}{}}}}})",
                     u.prompt_tokens, u.completion_tokens, u.prompt_tokens + u.completion_tokens,
                     u.cached_tokens, u.image_tokens, cache);
}

void LogprobsJson::Add(const TextDelta& delta) {
  if (chat_) return AddChat(delta);
  AddCompletion(delta.id, delta.text, &delta.logprob, delta.top);
}

void LogprobsJson::AddPrompt(const PromptToken& token, size_t top) {
  AddCompletion(token.id, token.text, token.rank > 0 ? &token.logprob : nullptr,
                std::span(token.top).first(std::min(top, token.top.size())));
}

void LogprobsJson::AddChat(const TextDelta& delta) {
  AppendComma(&content_);
  content_.push_back('{');
  AppendToken(&content_, frontend_->TokenText(delta.id), delta.logprob);
  content_.append(R"(,"top_logprobs":[)");
  for (size_t i = 0; i < delta.top.size(); ++i) {
    content_.append(i > 0 ? ",{" : "{");
    AppendToken(&content_, frontend_->TokenText(delta.top[i].first), delta.top[i].second);
    content_.push_back('}');
  }
  content_.append("]}");
}

// `logprob` is null for the first token of a prompt.
void LogprobsJson::AddCompletion(int32_t id, const std::string& text, const float* logprob,
                                 std::span<const std::pair<int32_t, float>> top) {
  const std::string token = frontend_->TokenText(id);
  for (std::string* list : {&tokens_, &values_, &offsets_, &tops_}) AppendComma(list);
  AppendJsonString(&tokens_, token);
  offsets_ += std::to_string(offset_);
  offset_ += Characters(text);
  if (logprob == nullptr) {
    values_ += "null";
    tops_ += "null";
    return;
  }
  AppendLogprob(&values_, *logprob);
  tops_.push_back('{');
  std::set<std::string> seen;  // tokens that are not whole characters may read the same
  const auto add = [&](const std::string& spelled, float value) {
    std::string key;
    AppendJsonString(&key, spelled);
    if (!seen.insert(key).second) return;
    if (seen.size() > 1) tops_.push_back(',');
    tops_ += key + ":";
    AppendLogprob(&tops_, value);
  };
  for (const auto& [other, value] : top) add(frontend_->TokenText(other), value);
  add(token, *logprob);
  tops_.push_back('}');
}

void PromptLogprobsJson::Add(const PromptToken& token) {
  AppendComma(&list_);
  if (token.rank == 0) {
    list_ += "null";
    return;
  }
  list_.push_back('{');
  const auto add = [&](int32_t id, float logprob, int64_t rank) {
    if (list_.back() != '{') list_.push_back(',');
    fmt::format_to(std::back_inserter(list_), R"("{}":{{"logprob":)", id);
    AppendLogprob(&list_, logprob);
    fmt::format_to(std::back_inserter(list_), R"(,"rank":{},"decoded_token":)", rank);
    AppendJsonString(&list_, frontend_->TokenText(id));
    list_.push_back('}');
  };
  bool own = false;
  for (int64_t i = 0; i < top_ && i < std::ssize(token.top); ++i) {
    const auto& [id, logprob] = token.top[static_cast<size_t>(i)];
    own = own || id == token.id;
    add(id, logprob, i + 1);
  }
  if (!own) add(token.id, token.logprob, token.rank);
  list_.push_back('}');
}

std::string LogprobsJson::Take() {
  std::string out = "null";
  if (chat_ && !content_.empty()) {
    out = R"({"content":[)" + content_ + "]}";
  } else if (!tokens_.empty()) {
    out = R"({"text_offset":[)" + offsets_ + R"(],"token_logprobs":[)" + values_ + R"(],"tokens":[)" +
          tokens_ + R"(],"top_logprobs":[)" + tops_ + "]}";
  }
  for (std::string* list : {&content_, &tokens_, &values_, &tops_, &offsets_}) list->clear();
  return out;
}

AnswerWriter::AnswerWriter(bool chat, std::string id, std::string model, int64_t created)
    : chat_(chat),
      id_(std::move(id)),
      model_(std::move(model)),
      created_(created),
      chunk_head_(Head(chat ? "chat.completion.chunk" : "text_completion")) {}

std::string AnswerWriter::Head(const char* object) const {
  std::string head = fmt::format(R"({{"id":"{}","object":"{}","created":{},"model":)", id_, object, created_);
  AppendJsonString(&head, model_);
  return head + R"(,"choices":[)";
}

std::string AnswerWriter::Chunk(const AnswerPart& part, const std::string& usage) const {
  std::string out = "data: " + chunk_head_;
  fmt::format_to(std::back_inserter(out), R"({{"index":{},)", part.index);
  if (chat_) {
    AppendDelta(&out, part, id_);
  } else {
    out.append(R"("text":)");
    AppendJsonString(&out, part.text);
  }
  out.append(R"(,"logprobs":)");
  out.append(part.logprobs);
  out.push_back(',');
  AppendEnd(&out, part);
  out.append("}]");
  if (!usage.empty()) out.append(R"(,"usage":)").append(usage);
  out.append("}\n\n");
  return out;
}

std::string AnswerWriter::UsageChunk(const std::string& usage) const {
  return "data: " + chunk_head_ + R"(],"usage":)" + usage + "}\n\n";
}

std::string AnswerWriter::Whole(const std::vector<AnswerPart>& choices, const std::string& usage) const {
  std::string out = Head(chat_ ? "chat.completion" : "text_completion");
  for (size_t i = 0; i < choices.size(); ++i) {
    const AnswerPart& part = choices[i];
    fmt::format_to(std::back_inserter(out), R"({}{{"index":{},)", i > 0 ? "," : "", part.index);
    if (chat_) {
      AppendMessage(&out, part, id_);
    } else {
      out.append(R"("text":)");
      AppendJsonString(&out, part.text);
    }
    out.append(R"(,"logprobs":)").append(part.logprobs).push_back(',');
    AppendEnd(&out, part);
    if (!chat_ && !part.prompt_logprobs.empty()) {
      out.append(R"(,"prompt_logprobs":)").append(part.prompt_logprobs);
    }
    out.push_back('}');
  }
  out.append(R"(],"usage":)").append(usage);
  if (chat_ && !choices[0].prompt_logprobs.empty()) {  // all choices have the same prompt
    out.append(R"(,"prompt_logprobs":)").append(choices[0].prompt_logprobs);
  }
  out.push_back('}');
  return out;
}

}  // namespace fulger
