#include "coordinator/api/json_fields.h"

#include <cmath>
#include <limits>
#include <set>

#include "coordinator/frontend/field_error.h"

namespace fulger {

using nlohmann::json;

absl::StatusOr<json> ParseJsonObject(std::string_view body) {
  if (body.empty()) return InvalidArgument("the body is empty: expected a JSON object");
  std::vector<std::set<std::string>> keys;
  std::string repeated;
  bool deep = false;
  const json::parser_callback_t watch = [&](int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys.emplace_back();
        [[fallthrough]];
      case json::parse_event_t::array_start:
        deep = deep || depth >= kMaxJsonDepth;
        break;
      case json::parse_event_t::key:
        if (!keys.back().insert(value.get<std::string>()).second) repeated = value.get<std::string>();
        break;
      case json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case json::parse_event_t::array_end:
      case json::parse_event_t::value:
        break;
    }
    return !deep;  // what is too deep is dropped while it is read
  };
  json parsed;
  try {
    parsed = json::parse(body.begin(), body.end(), watch);
  } catch (const json::exception& e) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ...": the bracket is not for
    // clients.
    const std::string_view what = e.what();
    const size_t end = what.find("] ");
    return InvalidArgument("the body is not JSON in UTF-8: {}",
                           end == std::string_view::npos ? what : what.substr(end + 2));
  }
  if (deep) return InvalidArgument("the body is nested more than {} deep", kMaxJsonDepth);
  if (!repeated.empty()) return FieldError(repeated, "the key is there twice");
  if (!parsed.is_object()) return InvalidArgument("the body is {}: expected an object", JsonKind(parsed));
  return parsed;
}

std::string_view JsonKind(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "a list";
    case json::value_t::string:
      return "a string";
    case json::value_t::boolean:
      return "a boolean";
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
    case json::value_t::number_float:
      return "a number";
    case json::value_t::binary:
    case json::value_t::discarded:
      break;
  }
  return "something else";
}

namespace {

absl::StatusOr<int64_t> ToInt(const json& value, const std::string& path, int64_t low, int64_t high) {
  const bool whole = value.is_number_integer() ||
                     (value.is_number_float() && std::nearbyint(value.get<double>()) == value.get<double>() &&
                      std::abs(value.get<double>()) < 9e15);
  if (!whole)
    return FieldError(path, "expected a whole number, found {}",
                      value.is_number() ? value.dump() : std::string(JsonKind(value)));
  const bool too_large = value.is_number_unsigned() &&
                         value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const int64_t number = too_large ? 0 : value.get<int64_t>();
  if (too_large || number < low || number > high) {
    return FieldError(path, "expected a whole number from {} to {}, found {}", low, high, value.dump());
  }
  return number;
}

}  // namespace

const json* JsonFields::Find(const char* name) const {
  read_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::vector<std::string> JsonFields::Unread() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items()) {
    if (!read_.contains(name)) names.push_back(name);
  }
  return names;
}

absl::Status JsonFields::Bool(const char* name, bool* out) const {
  const json* value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_boolean())
    return FieldError(Path(name), "expected true or false, found {}", JsonKind(*value));
  *out = value->get<bool>();
  return absl::OkStatus();
}

absl::Status JsonFields::Int(const char* name, int64_t low, int64_t high, int64_t* out) const {
  const json* value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(*out, ToInt(*value, Path(name), low, high));
  return absl::OkStatus();
}

absl::StatusOr<int32_t> JsonFields::Int32(const char* name, int32_t low, int32_t high,
                                          int32_t fallback) const {
  int64_t value = fallback;
  RETURN_IF_ERROR(Int(name, low, high, &value));
  return static_cast<int32_t>(value);
}

absl::StatusOr<float> JsonFields::Number(const char* name, double low, double high, float fallback) const {
  const json* value = Find(name);
  if (value == nullptr) return fallback;
  if (!value->is_number()) return FieldError(Path(name), "expected a number, found {}", JsonKind(*value));
  const double number = value->get<double>();
  if (!(number >= low && number <= high)) {
    return FieldError(Path(name), "expected a number from {} to {}, found {}", low, high, value->dump());
  }
  return static_cast<float>(number);
}

absl::Status JsonFields::String(const char* name, std::string* out) const {
  const json* value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_string()) return FieldError(Path(name), "expected a string, found {}", JsonKind(*value));
  *out = value->get<std::string>();
  return absl::OkStatus();
}

absl::Status JsonFields::Strings(const char* name, size_t most, std::vector<std::string>* out) const {
  const json* value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (value->is_string()) {
    out->push_back(value->get<std::string>());
    return absl::OkStatus();
  }
  if (!value->is_array()) {
    return FieldError(Path(name), "expected a string or a list of strings, found {}", JsonKind(*value));
  }
  if (value->size() > most) {
    return FieldError(Path(name), "expected at most {} strings, found {}", most, value->size());
  }
  for (const json& item : *value) {
    if (!item.is_string()) return FieldError(Path(name), "expected strings, found {}", JsonKind(item));
    out->push_back(item.get<std::string>());
  }
  return absl::OkStatus();
}

absl::Status JsonFields::Ids(const char* name, int64_t vocab, std::vector<int32_t>* out) const {
  const json* value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_array()) {
    return FieldError(Path(name), "expected a list of token ids, found {}", JsonKind(*value));
  }
  out->reserve(out->size() + value->size());
  for (const json& item : *value) {
    ASSIGN_OR_RETURN(const int64_t id, ToInt(item, Path(name), 0, vocab - 1));
    out->push_back(static_cast<int32_t>(id));
  }
  return absl::OkStatus();
}

absl::Status JsonFields::Refuse(const char* name, std::string_view why) const {
  const json* value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if ((value->is_structured() && value->empty()) || *value == false || *value == "") return absl::OkStatus();
  return FieldError(Path(name), "{}", why);
}

}  // namespace fulger
