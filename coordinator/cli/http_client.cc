#include "coordinator/cli/http_client.h"

#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <limits>
#include <utility>

namespace fulger {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

absl::StatusOr<Url> ParseUrl(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  if (text.starts_with("https://")) {
    return InvalidArgument("{}: this client speaks plain http only; put a TLS tunnel in between", text);
  }
  std::string_view rest = text;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  Url url;
  const size_t slash = rest.find('/');
  if (slash != std::string_view::npos) {
    url.path = rest.substr(slash);
    while (url.path.ends_with('/')) url.path.pop_back();
  }
  std::string_view authority = rest.substr(0, slash);
  const size_t bracket = authority.find(']');
  const size_t colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) url.port = authority.substr(colon + 1);
  std::string_view host = authority.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  url.host = host;
  if (url.host.empty() || url.port.empty()) {
    return InvalidArgument("{}: expected http://HOST:PORT", text);
  }
  return url;
}

absl::StatusOr<ClientResponse> HttpClient::Get(const std::string& path) const {
  return Send(false, path, {}, {});
}

absl::StatusOr<ClientResponse> HttpClient::Post(const std::string& path, std::string body,
                                                const std::function<bool(std::string_view)>& on_data) const {
  return Send(true, path, std::move(body), on_data);
}

absl::StatusOr<ClientResponse> HttpClient::Send(bool post, const std::string& path, std::string body,
                                                const std::function<bool(std::string_view)>& on_data) const {
  asio::io_context context;
  asio::ip::tcp::socket socket(context);
  boost::system::error_code error;
  const auto failed = [&](std::string_view what) {
    return Unavailable("http://{}:{}: {}: {}", url_.host, url_.port, what, error.message());
  };
  asio::ip::tcp::resolver resolver(context);
  const auto addresses = resolver.resolve(url_.host, url_.port, error);
  if (error) return failed("cannot resolve");
  asio::connect(socket, addresses, error);
  if (error) return failed("cannot connect");

  http::request<http::string_body> request(post ? http::verb::post : http::verb::get, url_.path + path, 11);
  request.set(http::field::host, url_.host);
  request.set(http::field::user_agent, "fulger");
  request.set(http::field::connection, "close");
  if (post) request.set(http::field::content_type, "application/json");
  if (!api_key_.empty()) request.set(http::field::authorization, "Bearer " + api_key_);
  request.body() = std::move(body);
  request.prepare_payload();
  http::write(socket, request, error);
  if (error) return failed("cannot send");

  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  http::read_header(socket, buffer, parser, error);
  if (error) return failed("no answer");
  ClientResponse response{.status = static_cast<int>(parser.get().result_int()), .body = {}};
  const bool stream = on_data && response.status == 200;
  std::array<char, 16384> chunk;
  while (!parser.is_done()) {
    parser.get().body().data = chunk.data();
    parser.get().body().size = chunk.size();
    // Some: what has arrived is handed on at once, not when the buffer is full.
    http::read_some(socket, buffer, parser, error);
    if (error == http::error::need_buffer) error = {};
    if (error) return failed("the answer was cut off");
    const std::string_view data(chunk.data(), chunk.size() - parser.get().body().size);
    if (data.empty()) continue;
    if (!stream) {
      response.body += data;
    } else if (!on_data(data)) {
      break;
    }
  }
  return response;
}

bool EventParser::Feed(std::string_view bytes, const std::function<bool(std::string_view)>& on_data) {
  pending_ += bytes;
  size_t from = 0;
  bool more = true;
  for (size_t end; more && (end = pending_.find('\n', from)) != std::string::npos; from = end + 1) {
    std::string_view line(pending_.data() + from, end - from);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with("data:")) continue;
    line.remove_prefix(5);
    if (line.starts_with(' ')) line.remove_prefix(1);
    more = on_data(line);
  }
  pending_.erase(0, from);
  return more;
}

}  // namespace fulger
