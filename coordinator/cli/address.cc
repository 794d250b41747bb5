#include "coordinator/cli/address.h"

#include <charconv>

namespace fulger {

absl::StatusOr<SocketAddress> ParseAddress(std::string_view flag, std::string_view text) {
  const size_t colon = text.rfind(':');
  std::string_view host = colon == std::string_view::npos ? "" : text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return InvalidArgument("{} {}: an IPv6 address is written in brackets: [::1]:8000", flag, text);
  }
  uint16_t port = 0;
  const char* const begin = text.data() + (colon == std::string_view::npos ? 0 : colon + 1);
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(begin, end, port);
  if (host.empty() || begin == end || error != std::errc() || rest != end) {
    return InvalidArgument("{} {}: expected ADDR:PORT, such as 127.0.0.1:8000", flag, text);
  }
  return SocketAddress{.host = std::string(host), .port = port};
}

std::string ToString(const SocketAddress& address) {
  return address.host.find(':') == std::string::npos ? fmt::format("{}:{}", address.host, address.port)
                                                     : fmt::format("[{}]:{}", address.host, address.port);
}

}  // namespace fulger
