// One streamed answer of a server, as a coroutine: a thread with an io_context runs thousands of them.
// One connection per request, so a time includes connecting, as it does for a client that comes once.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/cli/http_client.h"

namespace fulger::bench {

struct Endpoint {
  Url url;  // without the /v1 that paths here begin with
  std::string api_key;
};
absl::StatusOr<Endpoint> ParseEndpoint(std::string_view url, std::string api_key);

struct StreamReply {
  absl::Status status;  // not OK: no answer, or an answer that was cut off
  int code = 0;         // of HTTP; 0: none
  std::string body;     // unless the code is 200
};

class StreamClient {
 public:
  // Resolves the name once. `ca_file`: certificates to trust besides the system's; may be empty.
  static absl::StatusOr<StreamClient> Make(Endpoint endpoint, const std::string& ca_file);

  // `on_data` gets the payload of each event of a 200; false ends the reading.
  boost::asio::awaitable<StreamReply> Post(std::string path, std::string body,
                                           std::function<bool(std::string_view)> on_data);
  // What is under way ends with CANCELLED, on the thread of its io_context.
  void CancelAll();

 private:
  using Socket = boost::asio::ip::tcp::socket;
  explicit StreamClient(Endpoint endpoint)
      : endpoint_(std::move(endpoint)), tls_(boost::asio::ssl::context::tls_client) {}
  template <typename Stream>
  boost::asio::awaitable<StreamReply> Exchange(Stream* stream, std::string path, std::string body,
                                               std::function<bool(std::string_view)> on_data);
  absl::Status Failed(std::string_view what, const boost::system::error_code& error) const;

  Endpoint endpoint_;
  boost::asio::ssl::context tls_;
  std::vector<boost::asio::ip::tcp::endpoint> addresses_;
  std::set<Socket*> open_;
  bool cancelled_ = false;
};

}  // namespace fulger::bench
