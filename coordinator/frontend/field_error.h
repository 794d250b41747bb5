// What an error says besides its message: the field at fault, which OpenAI's clients want as `param`, and
// when to come again.
#pragma once

#include <absl/strings/cord.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace fulger {

inline constexpr char kFieldPayload[] = "fulger/field";
inline constexpr char kRetryPayload[] = "fulger/retry-after";

// The same status with `field` attached. RETURN_IF_ERROR keeps it, Annotate does not.
inline absl::Status WithField(absl::Status status, std::string_view field) {
  if (!status.ok())
    status.SetPayload(kFieldPayload, absl::Cord(absl::string_view(field.data(), field.size())));
  return status;
}

// INVALID_ARGUMENT "field: message".
template <typename... Args>
absl::Status FieldError(std::string_view field, fmt::format_string<Args...> format, Args&&... args) {
  return WithField(InvalidArgument("{}: {}", field, fmt::format(format, std::forward<Args>(args)...)), field);
}

// The same status with the advice to come again after so many seconds.
inline absl::Status WithRetryAfter(absl::Status status, int64_t seconds) {
  if (!status.ok()) status.SetPayload(kRetryPayload, absl::Cord(std::to_string(seconds)));
  return status;
}
inline std::optional<int64_t> RetryAfterOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryPayload);
  if (!payload) return std::nullopt;
  return std::stoll(std::string(*payload));  // only WithRetryAfter sets it
}

inline std::optional<std::string> FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kFieldPayload);
  if (!payload) return std::nullopt;
  return std::string(*payload);
}

}  // namespace fulger
