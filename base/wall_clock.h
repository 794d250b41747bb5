// This host's clock: to compare with other hosts and with times that people say, never to measure a duration
// with.
#pragma once

#include <chrono>
#include <functional>

namespace fulger {

// Seconds since 1970. A dependency like Clock: tests bring their own.
using WallSeconds = std::function<double()>;

inline double SystemWallSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace fulger
