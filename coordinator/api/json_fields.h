// Reading a client's JSON: limits on the whole, and fields that are absent, null or checked. Internal to the
// HTTP API: the only header that includes a JSON library.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace fulger {

inline constexpr int kMaxJsonDepth = 64;

// INVALID_ARGUMENT unless `body` is one JSON object in UTF-8, nested at most kMaxJsonDepth deep, without
// repeated keys.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view body);

// "a number", "a string", ...: for messages.
std::string_view JsonKind(const nlohmann::json& value);

// The fields of one object. Each function leaves `*out` alone when the field is absent or null, and returns
// a FieldError naming it when it has another type or is out of range.
class JsonFields {
 public:
  // `path` is put before field names: "messages[0]." for the first message.
  explicit JsonFields(const nlohmann::json& object, std::string path = "")
      : object_(object), path_(std::move(path)) {}

  // nullptr when absent or null.
  const nlohmann::json* Find(const char* name) const;
  std::string Path(const char* name) const { return path_ + name; }

  absl::Status Bool(const char* name, bool* out) const;
  absl::Status Int(const char* name, int64_t low, int64_t high, int64_t* out) const;
  // As above for the 32-bit fields of protobuf messages.
  absl::StatusOr<int32_t> Int32(const char* name, int32_t low, int32_t high, int32_t fallback) const;
  absl::StatusOr<float> Number(const char* name, double low, double high, float fallback) const;
  absl::Status String(const char* name, std::string* out) const;
  // A string or a list of strings.
  absl::Status Strings(const char* name, size_t most, std::vector<std::string>* out) const;
  // A list of token ids in [0, vocab).
  absl::Status Ids(const char* name, int64_t vocab, std::vector<int32_t>* out) const;
  // Names of the object that nobody has asked for so far.
  std::vector<std::string> Unread() const;
  // For a field that would change the answer and that we cannot honour. An empty list, object or string and
  // false ask for nothing.
  absl::Status Refuse(const char* name, std::string_view why) const;

 private:
  const nlohmann::json& object_;
  const std::string path_;
  mutable std::set<std::string, std::less<>> read_{};  // names asked for
};

}  // namespace fulger
