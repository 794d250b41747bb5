// HTTP as handlers see it: a request that is complete in memory, and a responder that takes one answer, at
// once or as a stream. No sockets here; http_server.h serves a Router.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace fulger {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string path;   // as sent, without the query; never decoded: our paths need no escapes
  std::string query;  // after '?', as sent
  HttpHeaders headers;
  std::string body{};
  std::string peer;  // address of the client

  // Value of the first header of that name, case-insensitive; empty when absent.
  std::string_view Header(std::string_view name) const;
  // The client's x-request-id; empty where it has none, or one that cannot go into a header or a log as it
  // is.
  std::string_view RequestId() const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body{};
  HttpHeaders headers{};  // besides Content-Type, Content-Length, Connection
};

// One answer to one request. Thread-safe; no call blocks. Exactly one of Send, or Begin..Write*..End. A
// responder that is dropped unanswered answers 500; dropped amid a stream, it cuts the connection.
class HttpResponder {
 public:
  virtual ~HttpResponder() = default;
  virtual void Send(HttpResponse response) = 0;
  // Starts a streamed answer (chunked; HTTP/1.0 clients read to the end of the connection).
  virtual void Begin(int status, std::string_view content_type, const HttpHeaders& headers) = 0;
  // False: the client is gone, or so far behind that its queue is full and it has been cut off.
  virtual bool Write(std::string_view data) = 0;
  // So many bytes that come at once, faster than any client reads, do not make it slow.
  virtual void AllowBehind(size_t /*bytes*/) {}
  virtual void End() = 0;
  // `gone` runs once, on a server thread (or on this one, if it has happened already), when the client
  // leaves or is cut off before the answer was complete. Never after it. Must not block.
  virtual void OnGone(std::function<void()> gone) = 0;
};

using HttpHandler = std::function<void(std::shared_ptr<const HttpRequest>, std::shared_ptr<HttpResponder>)>;

// Paths to handlers. Filled before the server starts, then read-only. HEAD is answered by GET's handler
// without the body, OPTIONS by the router.
class Router {
 public:
  // A path that ends in '*' matches every path with that beginning; exact paths win. Handlers run on the
  // server's threads and must not block.
  Router& Add(const std::string& method, const std::string& path, HttpHandler handler);
  // Handles, or answers 404 or 405.
  void Handle(std::shared_ptr<const HttpRequest> request, std::shared_ptr<HttpResponder> responder) const;
  // The pattern that `path` matches, "other" when none does: a label with few values.
  std::string RouteOf(const std::string& path) const;

 private:
  using Methods = std::map<std::string, HttpHandler>;
  const std::pair<const std::string, Methods>* Find(const std::string& path) const;

  std::map<std::string, Methods> routes_;
};

// Errors as OpenAI's clients parse them: {"error": {"message", "type", "param", "code"}}. Empty param or code
// are null. 429 and 503 carry Retry-After.
std::string ErrorJson(int status, std::string_view message, std::string_view param = {},
                      std::string_view code = {});
HttpResponse ErrorResponse(int status, std::string_view message, std::string_view param = {},
                           std::string_view code = {});
std::string_view ReasonPhrase(int status);

// Appends `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD.
void AppendJsonString(std::string* out, std::string_view text);

}  // namespace fulger
