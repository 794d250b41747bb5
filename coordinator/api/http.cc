#include "coordinator/api/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace fulger {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return Lower(x) == Lower(y); });
}

// Length of the well-formed UTF-8 sequence that `s` starts with; 0 if there is none.
size_t Utf8Length(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char b = byte(0);
  const size_t n = b < 0x80                ? 1
                   : b >= 0xc2 && b < 0xe0 ? 2
                   : b >= 0xe0 && b < 0xf0 ? 3
                   : b >= 0xf0 && b < 0xf5 ? 4
                                           : 0;
  if (n == 0 || n > s.size()) return 0;
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xc0U) != 0x80U) return 0;
  }
  if (b == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
  if (b == 0xed && byte(1) > 0x9f) return 0;  // surrogate
  if (b == 0xf0 && byte(1) < 0x90) return 0;  // overlong
  if (b == 0xf4 && byte(1) > 0x8f) return 0;  // above U+10FFFF
  return n;
}

void AppendStringOrNull(std::string* out, std::string_view text) {
  if (text.empty()) {
    out->append("null");
  } else {
    AppendJsonString(out, text);
  }
}

std::string_view ErrorType(int status) {
  if (status == 401) return "authentication_error";
  if (status == 404) return "not_found_error";
  if (status == 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (EqualsIgnoreCase(key, name)) return value;
  }
  return {};
}

std::string_view HttpRequest::RequestId() const {
  const std::string_view id = Header("x-request-id");
  const bool clean = id.size() <= 256 && std::ranges::all_of(id, [](char c) { return c > ' ' && c < 0x7f; });
  return clean ? id : std::string_view();
}

Router& Router::Add(const std::string& method, const std::string& path, HttpHandler handler) {
  routes_[path][method] = std::move(handler);
  return *this;
}

const std::pair<const std::string, Router::Methods>* Router::Find(const std::string& path) const {
  if (const auto exact = routes_.find(path); exact != routes_.end()) return &*exact;
  const std::pair<const std::string, Methods>* best = nullptr;
  for (const auto& route : routes_) {
    const std::string& pattern = route.first;
    if (pattern.empty() || pattern.back() != '*') continue;
    if (path.compare(0, pattern.size() - 1, pattern, 0, pattern.size() - 1) != 0) continue;
    if (best == nullptr || pattern.size() > best->first.size()) best = &route;
  }
  return best;
}

std::string Router::RouteOf(const std::string& path) const {
  const auto* route = Find(path);
  return route == nullptr ? "other" : route->first;
}

void Router::Handle(std::shared_ptr<const HttpRequest> request,
                    std::shared_ptr<HttpResponder> responder) const {
  const auto* route = Find(request->path);
  if (route == nullptr) {
    responder->Send(ErrorResponse(404, fmt::format("there is no {} here", request->path)));
    return;
  }
  const Methods& methods = route->second;
  const auto handler = methods.find(request->method == "HEAD" ? "GET" : request->method);
  if (handler != methods.end()) {
    handler->second(std::move(request), std::move(responder));
    return;
  }
  std::string allow = "OPTIONS";
  for (const auto& [method, unused] : methods) {
    allow += ", " + method;
    if (method == "GET") allow += ", HEAD";
  }
  HttpResponse response;
  if (request->method == "OPTIONS") {
    response.status = 204;
    response.content_type.clear();
  } else {
    response = ErrorResponse(
        405, fmt::format("{} does not answer {}, only {}", request->path, request->method, allow));
  }
  response.headers.emplace_back("Allow", allow);
  responder->Send(std::move(response));
}

std::string ErrorJson(int status, std::string_view message, std::string_view param, std::string_view code) {
  std::string json = R"({"error":{"message":)";
  AppendJsonString(&json, message);
  json += R"(,"type":)";
  AppendJsonString(&json, ErrorType(status));
  json += R"(,"param":)";
  AppendStringOrNull(&json, param);
  json += R"(,"code":)";
  AppendStringOrNull(&json, code);
  json += "}}";
  return json;
}

HttpResponse ErrorResponse(int status, std::string_view message, std::string_view param,
                           std::string_view code) {
  HttpResponse response;
  response.status = status;
  response.body = ErrorJson(status, message, param, code);
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Unknown";
  }
}

void AppendJsonString(std::string* out, std::string_view text) {
  out->push_back('"');
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    const auto u = static_cast<unsigned char>(c);
    if (u >= 0x80) {
      const size_t n = Utf8Length(text.substr(i));
      out->append(n == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(i, n));
      i += std::max<size_t>(n, 1);
      continue;
    }
    ++i;
    switch (c) {
      case '"':
        out->append("\\\"");
        break;
      case '\\':
        out->append("\\\\");
        break;
      case '\n':
        out->append("\\n");
        break;
      case '\r':
        out->append("\\r");
        break;
      case '\t':
        out->append("\\t");
        break;
      default:
        if (u < 0x20) {
          fmt::format_to(std::back_inserter(*out), "\\u{:04x}", u);
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

}  // namespace fulger
