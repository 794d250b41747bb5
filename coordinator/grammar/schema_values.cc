// Values that a schema lists, strings and numbers.
#include <algorithm>

#include "coordinator/frontend/field_error.h"
#include "coordinator/grammar/dfa_grammar.h"
#include "coordinator/grammar/number_language.h"
#include "coordinator/grammar/regex.h"
#include "coordinator/grammar/schema_reader.h"
#include "coordinator/grammar/string_formats.h"
#include "coordinator/text/utf8.h"

namespace fulger {

using Json = SchemaReader::Json;

namespace {

bool IsOfType(const Json& value, std::string_view type) {
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "object") return value.is_object();
  return type == "array" && value.is_array();
}

}  // namespace

std::string SchemaReader::Spelled(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::u32string SchemaReader::Characters(std::string_view utf8) {
  std::u32string characters;
  for (size_t at = 0; at < utf8.size();) {
    const size_t length = ReadUtf8Head(utf8.substr(at)).length;  // the parser of JSON has checked it
    characters += static_cast<char32_t>(DecodeUtf8(utf8.data() + at, length));
    at += length;
  }
  return characters;
}

absl::StatusOr<std::optional<std::vector<Json>>> SchemaReader::Listed(const Parts& parts) {
  std::optional<std::vector<Json>> values;
  const auto narrow = [&](std::vector<Json> own) {
    if (values) {
      // By spelling, whatever the order of properties: stricter than by value (1 and 1.0), and so no worse.
      const auto text = [](const Json& v) { return Spelled(nlohmann::json(v)); };
      std::set<std::string> known;
      for (const Json& value : *values) known.insert(text(value));
      std::erase_if(own, [&](const Json& value) { return !known.contains(text(value)); });
    }
    values = std::move(own);
  };
  for (const Part& part : parts) {
    if (const auto value = part.schema->find("const"); value != part.schema->end()) narrow({*value});
    const auto list = part.schema->find("enum");
    if (list == part.schema->end()) continue;
    if (!list->is_array()) return FieldError(part.path + ".enum", "expected a list");
    narrow({list->begin(), list->end()});
  }
  if (!values) return values;
  RETURN_IF_ERROR(KeepThoseThatHold(parts, &*values));
  return values;
}

// Drops the listed values that do not satisfy the other keywords.
absl::Status SchemaReader::KeepThoseThatHold(const Parts& parts, std::vector<Json>* values) {
  ASSIGN_OR_RETURN(const auto types, TypesOf(parts));
  std::erase_if(*values, [&](const Json& value) {
    return types && std::ranges::none_of(*types, [&](const auto& type) { return IsOfType(value, type); });
  });
  if (std::ranges::any_of(*values, &Json::is_string)) {
    ASSIGN_OR_RETURN(const std::optional<Dfa> strings, StringsOf(parts, /*lengths=*/true));
    std::erase_if(*values, [&](const Json& value) {
      return strings && value.is_string() && !strings->Accepts(Characters(value.get<std::string>()));
    });
  }
  if (std::ranges::any_of(*values, &Json::is_number)) {
    ASSIGN_OR_RETURN(const std::optional<Dfa> numbers, NumbersOf(/*integer=*/false, parts));
    std::erase_if(*values, [&](const Json& value) {  // one that is spelled with an exponent goes too
      return numbers && value.is_number() && !numbers->Accepts(Characters(Spelled(value)));
    });
  }
  if (std::ranges::none_of(*values, &Json::is_structured)) return absl::OkStatus();
  for (const Part& part : parts) {
    for (const char* keyword : {"properties", "required", "additionalProperties", "patternProperties",
                                "items", "prefixItems", "minItems", "maxItems", "uniqueItems"}) {
      if (part.schema->contains(keyword))
        return FieldError(part.path + "." + keyword, "not together with objects or arrays that are listed");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> SchemaReader::String(const Parts& parts, int32_t next) {
  ASSIGN_OR_RETURN(const Range range, RangeOf(parts, "minLength", "maxLength"));
  if (range.none()) return b_.Placeholder();
  ASSIGN_OR_RETURN(const std::optional<Dfa> strings, StringsOf(parts, /*lengths=*/false));
  if (strings) return JsonStringsOf(&b_, *strings, next);
  return range.any() ? json_.String(next) : json_.StringOfLength(range.least, range.most, next);
}

absl::StatusOr<std::optional<Dfa>> SchemaReader::StringsOf(const Parts& parts, bool lengths) {
  std::optional<Dfa> strings;
  for (const Part& part : parts) {
    if (const auto pattern = part.schema->find("pattern"); pattern != part.schema->end()) {
      if (!pattern->is_string()) return FieldError(part.path + ".pattern", "expected a string");
      RETURN_IF_ERROR(
          Narrow(part.path + ".pattern", CompileSearch(pattern->get<std::string>(), &budget_), &strings));
    }
    if (const auto format = part.schema->find("format"); format != part.schema->end()) {
      const Dfa* known = format->is_string() ? StringFormat(format->get<std::string>()) : nullptr;
      if (known == nullptr) {
        return FieldError(part.path + ".format", "expected one of {}; found {}", KnownStringFormats(),
                          Spelled(*format));
      }
      RETURN_IF_ERROR(Narrow(part.path + ".format", *known, &strings));
    }
  }
  ASSIGN_OR_RETURN(const Range range, RangeOf(parts, "minLength", "maxLength"));
  if (range.none()) return Dfa{};
  if (range.any() || (!strings && !lengths)) return strings;
  RETURN_IF_ERROR(Narrow(range.most < 0 ? range.least_at : range.most_at,
                         StringsOfLength(range.least, range.most), &strings));
  return strings;
}

// To what both accept. `at`: the keyword that asks for it.
absl::Status SchemaReader::Narrow(const std::string& at, absl::StatusOr<Dfa> by,
                                  std::optional<Dfa>* strings) {
  if (by.ok() && *strings) by = Intersection(**strings, *by, &budget_);
  if (!by.ok()) return FieldError(at, "{}", Message(by.status()));
  *strings = *std::move(by);
  return absl::OkStatus();
}

absl::StatusOr<int32_t> SchemaReader::Number(bool integer, const Parts& parts, int32_t next) {
  ASSIGN_OR_RETURN(const std::optional<Dfa> numbers, NumbersOf(integer, parts));
  if (numbers) return PlainTextOf(&b_, *numbers, next);
  return integer ? json_.Integer(next) : json_.Number(next);
}

// Numbers within all bounds; nullopt: there are none.
absl::StatusOr<std::optional<Dfa>> SchemaReader::NumbersOf(bool integer, const Parts& parts) {
  NumberBounds bounds{.integer = integer};
  std::vector<std::pair<Decimal, std::string>> multiples;  // with the keyword
  std::string at;
  for (const Part& part : parts) {
    const auto read = [&](const char* keyword) -> absl::StatusOr<std::optional<Decimal>> {
      const auto value = part.schema->find(keyword);
      if (value == part.schema->end()) return std::optional<Decimal>();
      const std::string where = fmt::format("{}.{}", part.path, keyword);
      if (!value->is_number()) return FieldError(where, "expected a number, found {}", Spelled(*value));
      const absl::StatusOr<Decimal> decimal = ParseDecimal(Spelled(*value));
      if (!decimal.ok()) return FieldError(where, "{}", Message(decimal.status()));
      if (at.empty()) at = part.path;
      return *decimal;
    };
    for (const auto& [keyword, out, exclusive] :
         {std::tuple("minimum", &bounds.least, false), std::tuple("exclusiveMinimum", &bounds.least, true),
          std::tuple("maximum", &bounds.most, false), std::tuple("exclusiveMaximum", &bounds.most, true)}) {
      ASSIGN_OR_RETURN(const std::optional<Decimal> bound, read(keyword));
      if (bound) out->push_back({.value = *bound, .exclusive = exclusive});
    }
    ASSIGN_OR_RETURN(const std::optional<Decimal> multiple, read("multipleOf"));
    if (!multiple) continue;
    if (multiple->negative || multiple->zero())
      return FieldError(part.path + ".multipleOf", "expected a number above 0");
    multiples.emplace_back(*multiple, part.path + ".multipleOf");
  }
  if (bounds.least.empty() && bounds.most.empty() && multiples.empty()) return std::optional<Dfa>();
  std::optional<Dfa> numbers;
  if (!multiples.empty()) bounds.multiple_of = multiples.front().first;
  RETURN_IF_ERROR(
      Narrow(multiples.empty() ? at : multiples.front().second, NumbersWithin(bounds, &budget_), &numbers));
  for (size_t i = 1; i < multiples.size(); ++i) {
    const NumberBounds more{.integer = integer, .multiple_of = multiples[i].first};
    RETURN_IF_ERROR(Narrow(multiples[i].second, NumbersWithin(more, &budget_), &numbers));
  }
  return numbers;
}

absl::StatusOr<SchemaReader::Range> SchemaReader::RangeOf(const Parts& parts, const char* least,
                                                          const char* most) {
  Range range;
  for (const Part& part : parts) {
    std::optional<int64_t> from, to;
    for (const auto& [key, out] : {std::pair(least, &from), std::pair(most, &to)}) {
      const auto value = part.schema->find(key);
      if (value == part.schema->end()) continue;
      if (!value->is_number_unsigned() || value->get<uint64_t>() > JsonGrammar::kMaxCount) {
        return FieldError(fmt::format("{}.{}", part.path, key),
                          "expected a whole number from 0 to {}, found {}", JsonGrammar::kMaxCount,
                          Spelled(*value));
      }
      *out = value->get<int64_t>();
    }
    if (from && to && *from > *to) {
      return FieldError(fmt::format("{}.{}", part.path, least), "{} is more than {}, {}", *from, most, *to);
    }
    if (from && *from >= range.least) {
      range.least = *from;
      range.least_at = fmt::format("{}.{}", part.path, least);
    }
    if (to && (range.most < 0 || *to < range.most)) {
      range.most = *to;
      range.most_at = fmt::format("{}.{}", part.path, most);
    }
  }
  return range;
}

}  // namespace fulger
