// ADDR:PORT on the command line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace fulger {

struct SocketAddress {
  std::string host;  // without brackets
  uint16_t port = 0;
};

// "127.0.0.1:8000", "[::1]:8000". Errors name `flag`.
absl::StatusOr<SocketAddress> ParseAddress(std::string_view flag, std::string_view text);
std::string ToString(const SocketAddress& address);

}  // namespace fulger
