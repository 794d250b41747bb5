// JsonGrammar::Schema: reads a schema and builds what it allows.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "coordinator/frontend/field_error.h"
#include "coordinator/grammar/dfa_grammar.h"
#include "coordinator/grammar/json_grammar.h"
#include "coordinator/grammar/number_language.h"
#include "coordinator/grammar/regex.h"
#include "coordinator/grammar/schema_overlap.h"
#include "coordinator/grammar/string_formats.h"

namespace fulger {

using Json = nlohmann::ordered_json;  // properties come in the schema's order

namespace {

constexpr std::string_view kAnnotations[] = {"title",      "description", "default",   "examples",
                                             "deprecated", "readOnly",    "writeOnly", "$schema",
                                             "$id",        "$comment",    "$defs",     "definitions"};
constexpr std::string_view kKeywords[] = {"type",
                                          "enum",
                                          "const",
                                          "properties",
                                          "required",
                                          "additionalProperties",
                                          "items",
                                          "minItems",
                                          "maxItems",
                                          "minLength",
                                          "maxLength",
                                          "pattern",
                                          "format",
                                          "minimum",
                                          "maximum",
                                          "exclusiveMinimum",
                                          "exclusiveMaximum",
                                          "multipleOf",
                                          "anyOf",
                                          "oneOf",
                                          "allOf",
                                          "$ref"};

bool IsAnnotation(std::string_view key) {
  return std::ranges::find(kAnnotations, key) != std::end(kAnnotations);
}

std::string Spelled(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

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

class SchemaReader {
 public:
  static constexpr size_t kMostMembers = 64;  // of oneOf

  SchemaReader(JsonGrammar* json, const Json& root, std::string path)
      : json_(*json), b_(*json->builder_), root_(root), root_path_(std::move(path)) {}

  absl::StatusOr<int32_t> Read(const Json& schema, const std::string& path, int32_t next) {
    if (b_.full())
      return FieldError(root_path_, "too large: it needs more than {} nodes", GrammarBuilder::kMaxNodes);
    if (schema.is_boolean()) return schema.get<bool>() ? json_.AnyValue(next) : b_.Placeholder();
    if (!schema.is_object()) return FieldError(path, "expected an object or a boolean");
    for (const auto& [key, value] : schema.items()) {
      if (!IsAnnotation(key) && std::ranges::find(kKeywords, key) == std::end(kKeywords)) {
        return FieldError(path + "." + key, "this keyword of JSON Schema is not supported");
      }
    }
    if (schema.contains("$ref")) return Reference(schema, path, next);
    if (schema.contains("anyOf")) return AnyOf(schema, "anyOf", path, next);
    if (schema.contains("oneOf")) return OneOf(schema, path, next);
    if (schema.contains("allOf")) return AllOf(schema, path, next);
    if (schema.contains("const") || schema.contains("enum")) return Values(schema, path, next);
    return Types(schema, path, next);
  }

 private:
  // Keywords whose meanings would have to be intersected.
  static absl::Status Alone(const Json& schema, const char* keyword, const std::string& path) {
    for (const auto& [key, value] : schema.items()) {
      if (key != keyword && !IsAnnotation(key)) {
        return FieldError(path + "." + key, "not together with {}", keyword);
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int32_t> Reference(const Json& schema, const std::string& path, int32_t next) {
    RETURN_IF_ERROR(Alone(schema, "$ref", path));
    const std::string at = path + ".$ref";
    if (!schema["$ref"].is_string()) return FieldError(at, "expected a string");
    const auto target = schema["$ref"].get<std::string>();
    if (const auto known = references_.find(target); known != references_.end())
      return b_.Call(known->second, next);
    const Json* found = nullptr;
    if (target == "#") {
      found = &root_;
    } else if (target.starts_with("#/")) {
      try {
        const Json::json_pointer pointer(target.substr(1));
        if (root_.contains(pointer)) found = &root_.at(pointer);
      } catch (const Json::exception&) {
      }
    }
    if (found == nullptr)
      return FieldError(at, "expected \"#/...\" that is in this schema, found \"{}\"", target);
    const int32_t rule = references_[target] = b_.Placeholder();
    ASSIGN_OR_RETURN(const int32_t body, Read(*found, root_path_ + target.substr(1), b_.end()));
    b_.Fill(rule, body);
    return b_.Call(rule, next);
  }

  absl::StatusOr<int32_t> AnyOf(const Json& schema, const char* keyword, const std::string& path,
                                int32_t next) {
    RETURN_IF_ERROR(Alone(schema, keyword, path));
    const Json& members = schema[keyword];
    if (!members.is_array() || members.empty())
      return FieldError(fmt::format("{}.{}", path, keyword), "expected a list of schemas");
    std::vector<int32_t> ways;
    std::set<std::string> seen;  // the same twice would be two ways to the same
    for (size_t i = 0; i < members.size(); ++i) {
      if (!seen.insert(Spelled(members[i])).second) continue;
      ASSIGN_OR_RETURN(ways.emplace_back(),
                       Read(members[i], fmt::format("{}.{}[{}]", path, keyword, i), next));
    }
    return b_.Split(std::move(ways));
  }

  // A choice between members that cannot hold together: then one of them is exactly one of them.
  absl::StatusOr<int32_t> OneOf(const Json& schema, const std::string& path, int32_t next) {
    ASSIGN_OR_RETURN(const int32_t node, AnyOf(schema, "oneOf", path, next));
    const Json& members = schema["oneOf"];
    if (members.size() > kMostMembers)
      return FieldError(path + ".oneOf", "at most {} schemas are supported", kMostMembers);
    for (size_t i = 0; i < members.size(); ++i) {
      for (size_t k = 0; k < i; ++k) {
        if (Disjoint(members[k], members[i], root_)) continue;
        return FieldError(
            path + ".oneOf",
            "members {} and {} may both hold for one value: tell them apart by their types, or by "
            "a required property that has other values in each; or use anyOf",
            k, i);
      }
    }
    return node;
  }

  absl::StatusOr<int32_t> AllOf(const Json& schema, const std::string& path, int32_t next) {
    RETURN_IF_ERROR(Alone(schema, "allOf", path));
    if (!schema["allOf"].is_array() || schema["allOf"].size() != 1) {
      return FieldError(path + ".allOf", "only a list of one schema is supported");
    }
    return Read(schema["allOf"][0], path + ".allOf[0]", next);
  }

  absl::StatusOr<int32_t> Values(const Json& schema, const std::string& path, int32_t next) {
    for (const auto& [key, value] : schema.items()) {
      if (key != "const" && key != "enum" && key != "type" && !IsAnnotation(key)) {
        return FieldError(path + "." + key, "not together with enum or const");
      }
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(schema, path));
    std::vector<int32_t> ways;
    const auto add = [&](const Json& value) {
      const bool fits = types.empty() || std::ranges::any_of(types, [&](const std::string& type) {
                          return IsOfType(value, type);
                        });
      if (fits) ways.push_back(b_.Literal(Spelled(value), next));
    };
    if (schema.contains("const")) {
      if (schema.contains("enum")) return FieldError(path + ".enum", "not together with const");
      add(schema["const"]);
    } else if (!schema["enum"].is_array()) {
      return FieldError(path + ".enum", "expected a list");
    } else {
      for (const Json& value : schema["enum"]) add(value);
    }
    if (ways.empty()) return b_.Placeholder();  // nothing
    return b_.Split(std::move(ways));
  }

  static absl::StatusOr<std::vector<std::string>> TypesOf(const Json& schema, const std::string& path) {
    std::vector<std::string> types;
    const auto type = schema.find("type");
    if (type == schema.end()) return types;
    const auto add = [&](const Json& name) -> absl::Status {
      static constexpr std::string_view kTypes[] = {"string", "number", "integer", "boolean",
                                                    "null",   "object", "array"};
      if (!name.is_string() || std::ranges::find(kTypes, name.get<std::string>()) == std::end(kTypes)) {
        return FieldError(path + ".type",
                          "expected string, number, integer, boolean, null, object or array, found {}",
                          Spelled(name));
      }
      types.push_back(name.get<std::string>());
      return absl::OkStatus();
    };
    if (!type->is_array()) {
      RETURN_IF_ERROR(add(*type));
      return types;
    }
    for (const Json& name : *type) RETURN_IF_ERROR(add(name));
    if (types.empty()) return FieldError(path + ".type", "an empty list allows nothing");
    std::ranges::sort(types);
    types.erase(std::unique(types.begin(), types.end()), types.end());
    // Every integer is a number: two ways to the same.
    if (std::ranges::find(types, "number") != types.end()) std::erase(types, "integer");
    return types;
  }

  absl::StatusOr<int32_t> Types(const Json& schema, const std::string& path, int32_t next) {
    ASSIGN_OR_RETURN(std::vector<std::string> types, TypesOf(schema, path));
    if (types.empty()) {
      const auto any = [&](std::initializer_list<const char*> keys) {
        return std::ranges::any_of(keys, [&](const char* key) { return schema.contains(key); });
      };
      // What has no type, but keywords of one, is written as that type: it satisfies the schema.
      if (any({"properties", "required", "additionalProperties"})) {
        types = {"object"};
      } else if (any({"items", "minItems", "maxItems"})) {
        types = {"array"};
      } else if (any({"minLength", "maxLength", "pattern", "format"})) {
        types = {"string"};
      } else if (any({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})) {
        types = {"number"};
      } else {
        return json_.AnyValue(next);
      }
    }
    std::vector<int32_t> ways;
    for (const std::string& type : types) {
      ASSIGN_OR_RETURN(ways.emplace_back(), OfType(type, schema, path, next));
    }
    return b_.Split(std::move(ways));
  }

  absl::StatusOr<int32_t> OfType(const std::string& type, const Json& schema, const std::string& path,
                                 int32_t next) {
    if (type == "string") return String(schema, path, next);
    if (type == "number" || type == "integer") return Number(type == "integer", schema, path, next);
    if (type == "boolean") return b_.Split({b_.Literal("true", next), b_.Literal("false", next)});
    if (type == "null") return b_.Literal("null", next);
    return type == "object" ? Object(schema, path, next) : Array(schema, path, next);
  }

  absl::StatusOr<int32_t> String(const Json& schema, const std::string& path, int32_t next) {
    ASSIGN_OR_RETURN(const auto range, Range(schema, "minLength", "maxLength", path));
    const bool any_length = range == std::pair<int64_t, int64_t>(0, -1);
    std::optional<Dfa> strings;
    if (const auto pattern = schema.find("pattern"); pattern != schema.end()) {
      if (!pattern->is_string()) return FieldError(path + ".pattern", "expected a string");
      RETURN_IF_ERROR(
          Narrow(path + ".pattern", CompileSearch(pattern->get<std::string>(), &budget_), &strings));
    }
    if (const auto format = schema.find("format"); format != schema.end()) {
      const Dfa* known = format->is_string() ? StringFormat(format->get<std::string>()) : nullptr;
      if (known == nullptr) {
        return FieldError(path + ".format", "expected one of {}; found {}", KnownStringFormats(),
                          Spelled(*format));
      }
      RETURN_IF_ERROR(Narrow(path + ".format", *known, &strings));
    }
    if (!strings) {
      return any_length ? json_.String(next) : json_.StringOfLength(range.first, range.second, next);
    }
    if (!any_length) {
      RETURN_IF_ERROR(Narrow(path + (range.second < 0 ? ".minLength" : ".maxLength"),
                             StringsOfLength(range.first, range.second), &strings));
    }
    return JsonStringsOf(&b_, *strings, next);
  }

  // To what both accept. `at`: the keyword that asks for it.
  absl::Status Narrow(const std::string& at, absl::StatusOr<Dfa> by, std::optional<Dfa>* strings) {
    if (by.ok() && *strings) by = Intersection(**strings, *by, &budget_);
    if (!by.ok()) return FieldError(at, "{}", Message(by.status()));
    *strings = *std::move(by);
    return absl::OkStatus();
  }

  absl::StatusOr<int32_t> Number(bool integer, const Json& schema, const std::string& path, int32_t next) {
    NumberBounds bounds{.integer = integer};
    const auto add = [&](const char* keyword, bool exclusive,
                         std::vector<NumberBounds::Bound>* out) -> absl::Status {
      const auto value = schema.find(keyword);
      if (value == schema.end()) return absl::OkStatus();
      const std::string at = fmt::format("{}.{}", path, keyword);
      if (!value->is_number()) return FieldError(at, "expected a number, found {}", Spelled(*value));
      const absl::StatusOr<Decimal> decimal = ParseDecimal(Spelled(*value));
      if (!decimal.ok()) return FieldError(at, "{}", Message(decimal.status()));
      out->push_back({.value = *decimal, .exclusive = exclusive});
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(add("minimum", false, &bounds.least));
    RETURN_IF_ERROR(add("exclusiveMinimum", true, &bounds.least));
    RETURN_IF_ERROR(add("maximum", false, &bounds.most));
    RETURN_IF_ERROR(add("exclusiveMaximum", true, &bounds.most));
    std::vector<NumberBounds::Bound> multiple;
    RETURN_IF_ERROR(add("multipleOf", false, &multiple));
    if (!multiple.empty()) {
      if (multiple[0].value.negative || multiple[0].value.zero())
        return FieldError(path + ".multipleOf", "expected a number above 0");
      bounds.multiple_of = multiple[0].value;
    }
    if (bounds.least.empty() && bounds.most.empty() && !bounds.multiple_of)
      return integer ? json_.Integer(next) : json_.Number(next);
    const absl::StatusOr<Dfa> numbers = NumbersWithin(bounds, &budget_);
    if (!numbers.ok()) {
      return FieldError(path + (bounds.multiple_of ? ".multipleOf" : ""), "{}", Message(numbers.status()));
    }
    return PlainTextOf(&b_, *numbers, next);
  }

  // The second is -1 where there is no limit.
  static absl::StatusOr<std::pair<int64_t, int64_t>> Range(const Json& schema, const char* least,
                                                           const char* most, const std::string& path) {
    std::pair<int64_t, int64_t> range{0, -1};
    for (const auto& [key, out] : {std::pair(least, &range.first), std::pair(most, &range.second)}) {
      const auto value = schema.find(key);
      if (value == schema.end()) continue;
      if (!value->is_number_unsigned() || value->get<uint64_t>() > JsonGrammar::kMaxCount) {
        return FieldError(fmt::format("{}.{}", path, key), "expected a whole number from 0 to {}, found {}",
                          JsonGrammar::kMaxCount, Spelled(*value));
      }
      *out = value->get<int64_t>();
    }
    if (range.second >= 0 && range.first > range.second) {
      return FieldError(fmt::format("{}.{}", path, least), "{} is more than {}, {}", range.first, most,
                        range.second);
    }
    return range;
  }

  absl::StatusOr<int32_t> Array(const Json& schema, const std::string& path, int32_t next) {
    ASSIGN_OR_RETURN(const auto range, Range(schema, "minItems", "maxItems", path));
    const auto items = schema.find("items");
    int32_t item = json_.ValueRule();
    if (items != schema.end()) {
      ASSIGN_OR_RETURN(item, Read(*items, path + ".items", b_.end()));
    }
    const auto [least, most] = range;
    if (least == 0 && most < 0) return json_.ListOf('[', ']', item, next);
    const int32_t close = b_.Literal("]", next);
    const int32_t end = json_.Space(close);  // behind an item
    const auto another = [&](int32_t behind) { return b_.Literal(",", json_.Space(b_.Call(item, behind))); };
    int32_t behind = end;
    int64_t made = std::max<int64_t>(most, 0);  // items in front of `behind`
    if (most < 0) {
      behind = b_.Placeholder();
      b_.Fill(behind, end);
      b_.Fill(behind, another(behind));
      made = least;
    }
    for (; made > 1; --made) {
      const int32_t more = another(behind);
      behind = made > least ? b_.Split({end, more}) : more;
    }
    if (made == 0) return b_.Literal("[", json_.Space(close));
    const int32_t first = b_.Call(item, behind);
    return b_.Literal("[", json_.Space(least == 0 ? b_.Split({close, first}) : first));
  }

  struct Property {
    std::string name;
    const Json* schema = nullptr;  // null: anything
    bool required = false;
  };

  absl::StatusOr<std::vector<Property>> Properties(const Json& schema, const std::string& path) {
    std::vector<Property> properties;
    if (const auto listed = schema.find("properties"); listed != schema.end()) {
      if (!listed->is_object()) return FieldError(path + ".properties", "expected an object");
      for (const auto& [name, value] : listed->items())
        properties.push_back({.name = name, .schema = &value});
    }
    const auto required = schema.find("required");
    if (required == schema.end()) return properties;
    if (!required->is_array()) return FieldError(path + ".required", "expected a list of names");
    const auto additional = schema.find("additionalProperties");
    for (const Json& entry : *required) {
      if (!entry.is_string())
        return FieldError(path + ".required", "expected names, found {}", Spelled(entry));
      const auto name = entry.get<std::string>();
      auto found = std::ranges::find(properties, name, &Property::name);
      if (found == properties.end()) {
        if (additional != schema.end() && *additional == false) {
          return FieldError(path + ".required", "\"{}\" is required and forbidden", name);
        }
        const bool typed = additional != schema.end() && additional->is_object();
        found = properties.insert(found, {.name = name, .schema = typed ? &*additional : nullptr});
      }
      found->required = true;
    }
    return properties;
  }

  absl::StatusOr<int32_t> Object(const Json& schema, const std::string& path, int32_t next) {
    ASSIGN_OR_RETURN(const std::vector<Property> properties, Properties(schema, path));
    const auto additional = schema.find("additionalProperties");
    if (additional != schema.end() && !additional->is_boolean() && !additional->is_object()) {
      return FieldError(path + ".additionalProperties", "expected a schema");
    }
    if (properties.empty()) {
      if (additional == schema.end() || *additional == true) return json_.AnyObject(next);
      if (*additional == false) return b_.Literal("{", json_.Space(b_.Literal("}", next)));
      ASSIGN_OR_RETURN(const int32_t value, Read(*additional, path + ".additionalProperties", b_.end()));
      return json_.ListOf('{', '}', json_.String(b_.Literal(":", json_.Space(value))), next);
    }
    // From the last on: `behind` where a property stands in front, `first` where none does.
    const int32_t close = b_.Literal("}", next);
    int32_t behind = json_.Space(close), first = close;
    for (size_t i = properties.size(); i-- > 0;) {
      const Property& property = properties[i];
      int32_t value = 0;
      if (property.schema == nullptr) {
        value = json_.AnyValue(behind);
      } else {
        ASSIGN_OR_RETURN(value, Read(*property.schema, path + ".properties." + property.name, behind));
      }
      const int32_t pair = b_.Literal(Spelled(Json(property.name)) + ":", json_.Space(value));
      const int32_t another = b_.Literal(",", json_.Space(pair));
      behind = property.required ? another : b_.Split({another, behind});
      first = property.required ? pair : b_.Split({pair, first});
    }
    return b_.Literal("{", json_.Space(first));
  }

  JsonGrammar& json_;
  GrammarBuilder& b_;
  const Json& root_;
  const std::string root_path_;
  std::map<std::string, int32_t> references_;  // by $ref
  WorkBudget budget_;
};

absl::StatusOr<int32_t> JsonGrammar::Schema(std::string_view schema, const std::string& path, int32_t next) {
  const Json root = Json::parse(schema, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return FieldError(path, "not JSON");
  return SchemaReader(this, root, path).Read(root, path, next);
}

}  // namespace fulger
