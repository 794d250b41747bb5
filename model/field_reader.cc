#include "model/field_reader.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace fulger {
namespace {

// What stands in the file, short enough for one line of a message.
std::string Show(const nlohmann::json& value) {
  constexpr size_t kMost = 60;
  if (value.is_array() && value.size() > 8) return fmt::format("a list of {} entries", value.size());
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

// Integers written as 1e7 or 64.0 count as integers.
std::optional<int64_t> AsInteger(const nlohmann::json& value) {
  if (value.is_number_unsigned()) {
    const uint64_t u = value.get<uint64_t>();
    if (u > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(u);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double d = value.get<double>();
  if (!(std::abs(d) < 9e15) || d != std::floor(d)) return std::nullopt;
  return static_cast<int64_t>(d);
}

}  // namespace

FieldReader::FieldReader(const nlohmann::json& object, std::string path)
    : object_(object), path_(std::move(path)) {
  if (!object_.is_object()) {
    status_ = InvalidArgument("{}: expected an object, found {}", path_.empty() ? "the file" : path_,
                              Show(object_));
  }
}

std::string FieldReader::Path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

bool FieldReader::Has(std::string_view name) const {
  if (!object_.is_object()) return false;
  const auto it = object_.find(std::string(name));
  return it != object_.end() && !it->is_null();
}

const nlohmann::json* FieldReader::Find(const Key& key) {
  const nlohmann::json* first = Has(key.name) ? &object_[std::string(key.name)] : nullptr;
  const nlohmann::json* second =
      !key.alias.empty() && Has(key.alias) ? &object_[std::string(key.alias)] : nullptr;
  if (first != nullptr && second != nullptr && *first != *second) {
    Fail(key.alias, fmt::format("{} as in {}", Show(*first), Path(key.name)), *second);
  }
  return first != nullptr ? first : second;
}

void FieldReader::Fail(std::string_view name, std::string_view expected, const nlohmann::json& found) {
  if (status_.ok()) {
    status_ = InvalidArgument("{}: expected {}, found {}", Path(name), expected, Show(found));
  }
}

void FieldReader::Missing(const Key& key, std::string_view expected) {
  if (!status_.ok()) return;
  const std::string alias = key.alias.empty() ? "" : fmt::format(" (or {})", key.alias);
  status_ = InvalidArgument("{}{}: expected {}, found no such key", Path(key.name), alias, expected);
}

int64_t FieldReader::Integer(const Key& key, const Bounds& bounds) {
  const std::string expected = fmt::format("an integer in {}..{}", bounds.min, bounds.max);
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    Missing(key, expected);
    return bounds.min;
  }
  const std::optional<int64_t> number = AsInteger(*value);
  if (!number || *number < bounds.min || *number > bounds.max) {
    Fail(Has(key.name) ? key.name : key.alias, expected, *value);
    return bounds.min;
  }
  return *number;
}

int64_t FieldReader::IntegerOr(const Key& key, const Bounds& bounds, int64_t fallback) {
  return Find(key) == nullptr ? fallback : Integer(key, bounds);
}

double FieldReader::Number(const Key& key) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    Missing(key, "a number");
    return 1.0;
  }
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    Fail(Has(key.name) ? key.name : key.alias, "a number", *value);
    return 1.0;
  }
  return value->get<double>();
}

double FieldReader::Positive(const Key& key) {
  const double number = Number(key);
  if (status_.ok() && !(number > 0.0)) {
    Fail(Has(key.name) ? key.name : key.alias, "a number above 0", *Find(key));
  }
  return number;
}

double FieldReader::PositiveOr(const Key& key, double fallback) {
  return Find(key) == nullptr ? fallback : Positive(key);
}

std::optional<int32_t> FieldReader::TokenId(std::string_view name) {
  const nlohmann::json* value = Find({name});
  if (value == nullptr) return std::nullopt;
  const bool list = value->is_array() && !value->empty();
  const std::optional<int64_t> id = AsInteger(list ? value->front() : *value);
  if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max()) {
    Fail(name, "a token id, a list of them or null", *value);
    return std::nullopt;
  }
  return static_cast<int32_t>(*id);
}

void FieldReader::Fixed(std::string_view name, const nlohmann::json& value) {
  if (Has(name) && object_[std::string(name)] != value) Fail(name, Show(value), object_[std::string(name)]);
}

}  // namespace fulger
