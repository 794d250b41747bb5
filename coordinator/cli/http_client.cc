#include "coordinator/cli/http_client.h"

#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <limits>
#include <utility>

#include "coordinator/cli/tls_trust.h"

namespace fulger {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

absl::StatusOr<Url> ParseUrl(std::string_view text) {
  constexpr std::string_view kPlain = "http://", kTls = "https://";
  std::string_view rest = text;
  Url url;
  if (rest.starts_with(kTls)) {
    url.tls = true;
    url.port = "443";
    rest.remove_prefix(kTls.size());
  } else if (rest.starts_with(kPlain)) {
    rest.remove_prefix(kPlain.size());
  }
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
    return InvalidArgument("{}: expected http://HOST:PORT or https://HOST:PORT", text);
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
  asio::ip::tcp::resolver resolver(context);
  const auto addresses = resolver.resolve(url_.host, url_.port, error);
  if (error) return Failed("cannot resolve", error.message());
  asio::connect(socket, addresses, error);
  if (error) return Failed("cannot connect", error.message());
  if (!url_.tls) return Exchange(socket, post, path, std::move(body), on_data);

  asio::ssl::context trusted(asio::ssl::context::tls_client);
  RETURN_IF_ERROR(TrustCertificates(ca_file_, &trusted));
  beast::ssl_stream<asio::ip::tcp::socket&> stream(socket, trusted);
  SSL_set_tlsext_host_name(stream.native_handle(), url_.host.c_str());
  stream.set_verify_callback(asio::ssl::host_name_verification(url_.host));
  stream.handshake(asio::ssl::stream_base::client, error);
  if (error) return Failed("TLS", error.message());
  return Exchange(stream, post, path, std::move(body), on_data);
}

absl::Status HttpClient::Failed(std::string_view what, const std::string& why) const {
  return Unavailable("{}://{}:{}: {}: {}", url_.tls ? "https" : "http", url_.host, url_.port, what, why);
}

template <typename Stream>
absl::StatusOr<ClientResponse> HttpClient::Exchange(
    Stream& stream, bool post, const std::string& path, std::string body,
    const std::function<bool(std::string_view)>& on_data) const {
  boost::system::error_code error;
  http::request<http::string_body> request(post ? http::verb::post : http::verb::get, url_.path + path, 11);
  request.set(http::field::host, url_.host);
  request.set(http::field::user_agent, "fulger");
  request.set(http::field::connection, "close");
  if (post) request.set(http::field::content_type, "application/json");
  if (!api_key_.empty()) request.set(http::field::authorization, "Bearer " + api_key_);
  request.body() = std::move(body);
  request.prepare_payload();
  http::write(stream, request, error);
  if (error) return Failed("cannot send", error.message());

  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  http::read_header(stream, buffer, parser, error);
  if (error) return Failed("no answer", error.message());
  ClientResponse response{.status = static_cast<int>(parser.get().result_int()), .body = {}};
  const bool hand_on = on_data && response.status == 200;
  std::array<char, 16384> chunk;
  while (!parser.is_done()) {
    parser.get().body().data = chunk.data();
    parser.get().body().size = chunk.size();
    // Some: what has arrived is handed on at once, not when the buffer is full.
    http::read_some(stream, buffer, parser, error);
    if (error == http::error::need_buffer) error = {};
    if (error) return Failed("the answer was cut off", error.message());
    const std::string_view data(chunk.data(), chunk.size() - parser.get().body().size);
    if (data.empty()) continue;
    if (!hand_on) {
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
