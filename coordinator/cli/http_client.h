// A blocking HTTP client for the command line: one request, one connection; http and https.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace fulger {

struct Url {
  std::string host;
  std::string port = "80";
  std::string path;  // without a final '/'; a request's own path is appended
  bool tls = false;
};
// http:// where no scheme is given; https:// means TLS and port 443.
absl::StatusOr<Url> ParseUrl(std::string_view text);

struct ClientResponse {
  int status = 0;
  std::string body;  // empty where `on_data` took it
};

class HttpClient {
 public:
  // `ca_file`: certificates to trust besides the system's; may be empty.
  HttpClient(Url url, std::string api_key, std::string ca_file = {})
      : url_(std::move(url)), api_key_(std::move(api_key)), ca_file_(std::move(ca_file)) {}

  absl::StatusOr<ClientResponse> Get(const std::string& path) const;
  // With `on_data`, the body of a 200 goes there as it arrives; false cuts the connection.
  absl::StatusOr<ClientResponse> Post(const std::string& path, std::string body,
                                      const std::function<bool(std::string_view)>& on_data = {}) const;

 private:
  absl::StatusOr<ClientResponse> Send(bool post, const std::string& path, std::string body,
                                      const std::function<bool(std::string_view)>& on_data) const;
  template <typename Stream>
  absl::StatusOr<ClientResponse> Exchange(Stream& stream, bool post, const std::string& path,
                                          std::string body,
                                          const std::function<bool(std::string_view)>& on_data) const;
  absl::Status Failed(std::string_view what, const std::string& why) const;

  Url url_;
  std::string api_key_, ca_file_;
};

// Cuts a stream of server-sent events into the payloads of its "data:" lines.
class EventParser {
 public:
  // Calls `on_data` for each line that is complete; false from it ends the parsing.
  bool Feed(std::string_view bytes, const std::function<bool(std::string_view)>& on_data);

 private:
  std::string pending_;
};

}  // namespace fulger
