// Errors in what a client sent, with the field at fault attached: OpenAI's clients want it as `param`.
#pragma once

#include <absl/strings/cord.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace fulger {

inline constexpr char kFieldPayload[] = "fulger/field";

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

inline std::optional<std::string> FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kFieldPayload);
  if (!payload) return std::nullopt;
  return std::string(*payload);
}

}  // namespace fulger
