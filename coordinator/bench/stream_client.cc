#include "coordinator/bench/stream_client.h"

#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <limits>
#include <utility>

#include "coordinator/cli/tls_trust.h"

namespace fulger::bench {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

absl::StatusOr<Endpoint> ParseEndpoint(std::string_view url, std::string api_key) {
  ASSIGN_OR_RETURN(Url parsed, ParseUrl(url));
  // Both forms name the same server.
  if (parsed.path.ends_with("/v1")) parsed.path.resize(parsed.path.size() - 3);
  return Endpoint{.url = std::move(parsed), .api_key = std::move(api_key)};
}

absl::StatusOr<StreamClient> StreamClient::Make(Endpoint endpoint, const std::string& ca_file) {
  StreamClient client(std::move(endpoint));
  boost::system::error_code error;
  asio::io_context context;
  const Url& url = client.endpoint_.url;
  for (const auto& found : asio::ip::tcp::resolver(context).resolve(url.host, url.port, error)) {
    client.addresses_.push_back(found.endpoint());
  }
  if (error) return client.Failed("cannot resolve", error);
  if (url.tls) RETURN_IF_ERROR(TrustCertificates(ca_file, &client.tls_));
  return client;
}

absl::Status StreamClient::Failed(std::string_view what, const boost::system::error_code& error) const {
  if (cancelled_) return Cancelled("cut off by this client");
  return Unavailable("{}:{}: {}: {}", endpoint_.url.host, endpoint_.url.port, what, error.message());
}

void StreamClient::CancelAll() {
  cancelled_ = true;
  boost::system::error_code ignored;
  for (Socket* const socket : open_) socket->close(ignored);
}

asio::awaitable<StreamReply> StreamClient::Post(std::string path, std::string body,
                                                std::function<bool(std::string_view)> on_data) {
  Socket socket(co_await asio::this_coro::executor);
  struct Registered {
    std::set<Socket*>* open;
    Socket* socket;
    ~Registered() { open->erase(socket); }
  };
  boost::system::error_code error;
  if (cancelled_) co_return StreamReply{.status = Failed("", error)};
  open_.insert(&socket);
  const Registered registered{&open_, &socket};
  co_await asio::async_connect(socket, addresses_, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return StreamReply{.status = Failed("cannot connect", error)};
  socket.set_option(asio::ip::tcp::no_delay(true), error);
  if (!endpoint_.url.tls)
    co_return co_await Exchange(&socket, std::move(path), std::move(body), std::move(on_data));
  beast::ssl_stream<Socket&> stream(socket, tls_);
  SSL_set_tlsext_host_name(stream.native_handle(), endpoint_.url.host.c_str());
  stream.set_verify_callback(asio::ssl::host_name_verification(endpoint_.url.host));
  co_await stream.async_handshake(asio::ssl::stream_base::client,
                                  asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return StreamReply{.status = Failed("TLS", error)};
  co_return co_await Exchange(&stream, std::move(path), std::move(body), std::move(on_data));
}

template <typename Stream>
asio::awaitable<StreamReply> StreamClient::Exchange(Stream* stream, std::string path, std::string body,
                                                    std::function<bool(std::string_view)> on_data) {
  http::request<http::string_body> request(http::verb::post, endpoint_.url.path + path, 11);
  request.set(http::field::host, endpoint_.url.host);
  request.set(http::field::user_agent, "fulger-bench");
  request.set(http::field::connection, "close");
  request.set(http::field::content_type, "application/json");
  if (!endpoint_.api_key.empty()) request.set(http::field::authorization, "Bearer " + endpoint_.api_key);
  request.body() = std::move(body);
  request.prepare_payload();
  boost::system::error_code error;
  co_await http::async_write(*stream, request, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return StreamReply{.status = Failed("cannot send", error)};
  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  co_await http::async_read_header(*stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  if (error) co_return StreamReply{.status = Failed("no answer", error)};
  StreamReply reply{
      .status = absl::OkStatus(), .code = static_cast<int>(parser.get().result_int()), .body = {}};
  EventParser events;
  std::array<char, 4096> chunk;
  while (!parser.is_done()) {
    parser.get().body().data = chunk.data();
    parser.get().body().size = chunk.size();
    co_await http::async_read_some(*stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
    if (error == http::error::need_buffer) error = {};
    if (error) {
      reply.status = Failed("the answer was cut off", error);
      break;
    }
    const std::string_view data(chunk.data(), chunk.size() - parser.get().body().size);
    if (reply.code != 200) {
      reply.body += data;
    } else if (!events.Feed(data, on_data)) {
      break;
    }
  }
  co_return reply;
}

}  // namespace fulger::bench
