#include "coordinator/api/request_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/log.h"
#include "coordinator/api/http.h"

namespace fulger {
namespace {

void AppendValue(std::string* out, std::string_view value) {
  const bool plain = std::all_of(value.begin(), value.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
  });
  if (value.empty()) {
    out->push_back('-');
  } else if (plain) {
    out->append(value);
  } else {
    AppendJsonString(out, value);
  }
}

}  // namespace

std::string ToString(const RequestLogLine& line) {
  std::string text = "request";
  const auto add = [&](std::string_view key, std::string_view value) {
    text.append(" ").append(key).append("=");
    AppendValue(&text, value);
  };
  add("id", line.id);
  add("answer", line.answer);
  add("route", line.route);
  add("client", line.client);
  add("peer", line.peer);
  add("status", line.status);
  add("finish", line.finish);
  text += fmt::format(
      " stream={} choices={} prompt={} cached={} image={} completion={} picture={:.4f} queue={:.4f} "
      "prefill={:.4f} decode={:.4f} total={:.4f}",
      line.stream, line.choices, line.prompt_tokens, line.cached_tokens, line.image_tokens,
      line.completion_tokens, line.picture, line.queue, line.prefill, line.decode, line.total);
  if (!line.error.empty()) add("error", line.error);
  return text;
}

void LogRequest(const RequestLogLine& line) { LogInfo("{}", ToString(line)); }

}  // namespace fulger
