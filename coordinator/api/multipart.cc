#include "coordinator/api/multipart.h"

#include <algorithm>
#include <cctype>

namespace fulger {
namespace {

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

// The value of `name=` or `name="..."` in a header; empty where there is none. `name` begins a parameter: it
// follows
// ';' or a space.
std::string Parameter(std::string_view header, std::string_view name) {
  const std::string lower = Lower(header);
  for (size_t at = 0; (at = lower.find(name, at)) != std::string::npos; at += name.size()) {
    const size_t equals = at + name.size();
    if (at == 0 || (lower[at - 1] != ' ' && lower[at - 1] != ';') || equals >= header.size() ||
        header[equals] != '=') {
      continue;
    }
    std::string_view value = header.substr(equals + 1);
    if (!value.starts_with('"')) return std::string(value.substr(0, value.find_first_of("; \t")));
    value.remove_prefix(1);
    std::string unquoted;
    for (size_t i = 0; i < value.size() && value[i] != '"'; ++i) {
      if (value[i] == '\\' && i + 1 < value.size()) ++i;
      unquoted.push_back(value[i]);
    }
    return unquoted;
  }
  return {};
}

}  // namespace

absl::StatusOr<std::vector<FormPart>> ParseMultipart(std::string_view content_type, std::string_view body) {
  if (!Lower(content_type).starts_with("multipart/form-data")) {
    return InvalidArgument("expected the content type multipart/form-data, found \"{}\"", content_type);
  }
  const std::string boundary = Parameter(content_type, "boundary");
  if (boundary.empty() || boundary.size() > 70)
    return InvalidArgument("multipart/form-data without a boundary");
  const std::string first = "--" + boundary, delimiter = "\r\n" + first;
  std::vector<FormPart> parts;
  if (!body.starts_with(first)) return InvalidArgument("the form does not begin with its boundary");
  body.remove_prefix(first.size());
  while (true) {
    if (body.starts_with("--")) return parts;
    const size_t head_end = body.find("\r\n\r\n");
    const size_t end = head_end == std::string_view::npos ? head_end : body.find(delimiter, head_end + 2);
    if (!body.starts_with("\r\n") || end == std::string_view::npos) {
      return InvalidArgument("part {} of the form does not end", parts.size() + 1);
    }
    FormPart part;
    std::string_view head = body.substr(2, head_end - 2);
    while (!head.empty()) {
      const std::string_view line = head.substr(0, head.find("\r\n"));
      head.remove_prefix(std::min(head.size(), line.size() + 2));
      if (!Lower(line).starts_with("content-disposition:")) continue;
      part.name = Parameter(line, "name");
      part.filename = Parameter(line, "filename");
    }
    const size_t from = head_end + 4;
    part.content = body.substr(from, end < from ? 0 : end - from);
    parts.push_back(std::move(part));
    body.remove_prefix(end + delimiter.size());
  }
}

}  // namespace fulger
