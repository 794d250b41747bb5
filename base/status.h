// Errors that the world can cause travel as absl::Status; this file adds formatted construction and the two
// macros that the whole tree uses. Messages name the object, what was expected and what was found.
//
//   if (rows != want) return InvalidArgument("layer {} {}: expected {} rows, file has {}", l, name, want,
//   rows); ASSIGN_OR_RETURN(Plan plan, MakePlan(config, layout));
//
// Our interfaces use std::string_view; absl's (which is another type in distribution builds) stays inside.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace fulger {

template <typename... Args>
absl::Status MakeStatus(absl::StatusCode code, fmt::format_string<Args...> format, Args&&... args) {
  const std::string message = fmt::format(format, std::forward<Args>(args)...);
  return absl::Status(code, absl::string_view(message.data(), message.size()));
}

#define FULGER_DEFINE_STATUS(Name, code)                                            \
  template <typename... Args>                                                       \
  absl::Status Name(fmt::format_string<Args...> format, Args&&... args) {           \
    return MakeStatus(absl::StatusCode::code, format, std::forward<Args>(args)...); \
  }
FULGER_DEFINE_STATUS(Cancelled, kCancelled)
FULGER_DEFINE_STATUS(InvalidArgument, kInvalidArgument)
FULGER_DEFINE_STATUS(NotFound, kNotFound)
FULGER_DEFINE_STATUS(AlreadyExists, kAlreadyExists)
FULGER_DEFINE_STATUS(FailedPrecondition, kFailedPrecondition)
FULGER_DEFINE_STATUS(ResourceExhausted, kResourceExhausted)
FULGER_DEFINE_STATUS(OutOfRange, kOutOfRange)
FULGER_DEFINE_STATUS(DeadlineExceeded, kDeadlineExceeded)
FULGER_DEFINE_STATUS(Unavailable, kUnavailable)
FULGER_DEFINE_STATUS(Unimplemented, kUnimplemented)
FULGER_DEFINE_STATUS(DataLoss, kDataLoss)
FULGER_DEFINE_STATUS(Internal, kInternal)
#undef FULGER_DEFINE_STATUS

inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

// The same code, with `context` put before the message: "loading shard 3: truncated header ...".
inline absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return MakeStatus(status.code(), "{}: {}", context, Message(status));
}

}  // namespace fulger

#define FULGER_CONCAT_INNER(a, b) a##b
#define FULGER_CONCAT(a, b) FULGER_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expr)                                                           \
  do {                                                                                  \
    if (absl::Status fulger_status = (expr); !fulger_status.ok()) return fulger_status; \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expr) FULGER_ASSIGN_OR_RETURN(FULGER_CONCAT(fulger_or_, __LINE__), lhs, expr)
#define FULGER_ASSIGN_OR_RETURN(tmp, lhs, expr) \
  auto tmp = (expr);                            \
  if (!tmp.ok()) return tmp.status();           \
  lhs = std::move(tmp).value()
