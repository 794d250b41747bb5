// FULGER_CHECK is for our own bugs only: never for bytes from a file, a socket or a peer (those are Status).
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace fulger {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* expr,
                                     const std::string& message) {
  std::fprintf(stderr, "%s:%d: check failed: %s %s\n", file, line, expr, message.c_str());
  std::fflush(stderr);
  std::abort();
}

inline std::string CheckMessage() { return {}; }
template <typename... Args>
std::string CheckMessage(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}

}  // namespace fulger

#define FULGER_CHECK(cond, ...)                                                              \
  do {                                                                                       \
    if (!(cond)) [[unlikely]] {                                                              \
      ::fulger::CheckFailed(__FILE__, __LINE__, #cond, ::fulger::CheckMessage(__VA_ARGS__)); \
    }                                                                                        \
  } while (false)
