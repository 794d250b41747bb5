#include "coordinator/grammar/schema_reader.h"

#include <absl/cleanup/cleanup.h>

#include <algorithm>
#include <iterator>

#include "coordinator/frontend/field_error.h"
#include "coordinator/grammar/schema_overlap.h"

namespace fulger {

using Json = SchemaReader::Json;

namespace {

constexpr int64_t kStepsPerPart = 20;  // of the budget of work

constexpr std::string_view kAnnotations[] = {"title",      "description", "default",   "examples",
                                             "deprecated", "readOnly",    "writeOnly", "$schema",
                                             "$id",        "$comment",    "$defs",     "definitions"};
constexpr std::string_view kKeywords[] = {"type",
                                          "enum",
                                          "const",
                                          "properties",
                                          "required",
                                          "additionalProperties",
                                          "patternProperties",
                                          "items",
                                          "prefixItems",
                                          "minItems",
                                          "maxItems",
                                          "uniqueItems",
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

// Keywords that mean something without "type": what has no type, but these, is written as this type, and then
// it satisfies the schema.
const std::pair<const char*, std::vector<const char*>> kImplied[] = {
    {"object", {"properties", "required", "additionalProperties", "patternProperties"}},
    {"array", {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}},
    {"string", {"minLength", "maxLength", "pattern", "format"}},
    {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}}};

absl::Status CheckKeywords(const Json& schema, const std::string& path) {
  for (const auto& [key, value] : schema.items()) {
    if (std::ranges::find(kAnnotations, key) != std::end(kAnnotations)) continue;
    if (std::ranges::find(kKeywords, key) != std::end(kKeywords)) continue;
    if (key == "not") {
      return FieldError(
          path + ".not",
          "not supported: an answer is written from what it may be, not from what it may not be; "
          "say it by enum, pattern, bounds or types");
    }
    return FieldError(path + "." + key, "this keyword of JSON Schema is not supported");
  }
  return absl::OkStatus();
}

}  // namespace

SchemaReader::SchemaReader(JsonGrammar* json, const Json& root, std::string path)
    : json_(*json), b_(*json->builder_), root_(root), root_path_(std::move(path)) {}

absl::StatusOr<int32_t> SchemaReader::Read(const Parts& asked, int32_t next) {
  if (b_.full())
    return FieldError(root_path_, "too large: it needs more than {} nodes", GrammarBuilder::kMaxNodes);
  ++depth_;
  const absl::Cleanup leave = [this] { --depth_; };
  if (depth_ > kMostDepth)
    return FieldError(root_path_, "too large: schemas lie more than {} deep in one another", kMostDepth);
  ASSIGN_OR_RETURN(const Whole whole, Gather(asked));
  if (whole.nothing) return b_.Placeholder();
  if (!budget_.Use(kStepsPerPart * std::ssize(whole.parts)))
    return FieldError(root_path_, "too large: what its schemas mean together takes too long to find");
  if (!whole.by_reference) return Body(whole.parts, next);

  std::vector<std::pair<const Json*, unsigned>> key;
  for (const Part& part : whole.parts) key.emplace_back(part.schema, part.done);
  std::ranges::sort(key);
  if (const auto known = rules_.find(key); known != rules_.end()) return b_.Call(known->second, next);
  const int32_t rule = rules_[std::move(key)] = b_.Placeholder();
  ASSIGN_OR_RETURN(const int32_t body, Body(whole.parts, b_.end()));
  b_.Fill(rule, body);
  return b_.Call(rule, next);
}

absl::StatusOr<SchemaReader::Whole> SchemaReader::Gather(const Parts& asked) const {
  Whole whole;
  for (const Part& part : asked) RETURN_IF_ERROR(GatherPart(part, &whole));
  return whole;
}

absl::Status SchemaReader::GatherPart(Part part, Whole* whole) const {
  const Json& schema = *part.schema;
  if (schema.is_boolean()) {
    whole->nothing = whole->nothing || !schema.get<bool>();
    return absl::OkStatus();
  }
  if (!schema.is_object()) return FieldError(part.path, "expected an object or a boolean");
  const bool fresh = (part.done & kReferences) == 0;
  if (fresh && std::ranges::find(whole->within, &schema) != whole->within.end()) {
    whole->nothing = true;  // it is what it is: no value is ever reached
    return absl::OkStatus();
  }
  if (fresh && !whole->seen.insert(&schema).second) return absl::OkStatus();
  const std::string path = part.path;
  part.done |= kReferences;
  const auto same = [&](const Part& p) { return p.schema == &schema && p.done == part.done; };
  if (std::ranges::none_of(whole->parts, same)) whole->parts.push_back(std::move(part));
  if (!fresh) return absl::OkStatus();

  RETURN_IF_ERROR(CheckKeywords(schema, path));
  if (std::ssize(whole->within) > kMostDepth)
    return FieldError(root_path_, "too large: more than {} references in a row", kMostDepth);
  whole->within.push_back(&schema);
  if (schema.contains("$ref")) {
    whole->by_reference = true;
    ASSIGN_OR_RETURN(Part target, Target({.schema = &schema, .path = path}));
    RETURN_IF_ERROR(GatherPart(std::move(target), whole));
  }
  if (const auto all = schema.find("allOf"); all != schema.end()) {
    if (!all->is_array() || all->empty()) return FieldError(path + ".allOf", "expected a list of schemas");
    for (size_t i = 0; i < all->size(); ++i) {
      RETURN_IF_ERROR(
          GatherPart({.schema = &(*all)[i], .path = fmt::format("{}.allOf[{}]", path, i)}, whole));
    }
  }
  whole->within.pop_back();
  return absl::OkStatus();
}

absl::StatusOr<SchemaReader::Part> SchemaReader::Target(const Part& part) const {
  const std::string at = part.path + ".$ref";
  const Json& reference = (*part.schema)["$ref"];
  if (!reference.is_string()) return FieldError(at, "expected a string");
  const auto target = reference.get<std::string>();
  if (target == "#") return Part{.schema = &root_, .path = root_path_};
  if (target.starts_with("#/")) {
    try {
      const Json::json_pointer pointer(target.substr(1));
      if (root_.contains(pointer))
        return Part{.schema = &root_.at(pointer), .path = root_path_ + target.substr(1)};
    } catch (const Json::exception&) {
    }
  }
  return FieldError(at, "expected \"#/...\" that is in this schema, found \"{}\"", target);
}

absl::StatusOr<int32_t> SchemaReader::Body(const Parts& parts, int32_t next) {
  for (size_t i = 0; i < parts.size(); ++i) {
    for (const auto& [keyword, bit] : {std::pair("anyOf", kAnyOf), std::pair("oneOf", kOneOf)}) {
      if ((parts[i].done & bit) == 0 && parts[i].schema->contains(keyword))
        return Choice(parts, i, keyword, bit, next);
    }
  }
  ASSIGN_OR_RETURN(const auto values, Listed(parts));
  if (!values) return Types(parts, next);
  std::vector<int32_t> ways;
  for (const Json& value : *values) ways.push_back(b_.Literal(Spelled(value), next));
  return ways.empty() ? b_.Placeholder() : b_.Split(std::move(ways));
}

absl::StatusOr<int32_t> SchemaReader::Choice(const Parts& parts, size_t index, const char* keyword,
                                             unsigned bit, int32_t next) {
  const Json& members = (*parts[index].schema)[keyword];
  const std::string at = fmt::format("{}.{}", parts[index].path, keyword);
  if (!members.is_array() || members.empty()) return FieldError(at, "expected a list of schemas");
  Parts chosen = parts;
  chosen[index].done |= bit;
  chosen.emplace_back();
  std::vector<int32_t> ways;
  std::set<std::string> seen;  // the same twice would be two ways to the same
  for (size_t i = 0; i < members.size(); ++i) {
    if (!seen.insert(Spelled(members[i])).second) continue;
    chosen.back() = {.schema = &members[i], .path = fmt::format("{}[{}]", at, i)};
    ASSIGN_OR_RETURN(ways.emplace_back(), Read(chosen, next));
  }
  // A choice between members that cannot hold together: then one of them is exactly one of them.
  if (keyword == std::string_view("oneOf")) RETURN_IF_ERROR(CheckApart(members, at));
  return b_.Split(std::move(ways));
}

absl::Status SchemaReader::CheckApart(const Json& members, const std::string& path) const {
  if (members.size() > kMostMembers)
    return FieldError(path, "at most {} schemas are supported", kMostMembers);
  for (size_t i = 0; i < members.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (Disjoint(members[k], members[i], root_)) continue;
      return FieldError(
          path,
          "members {} and {} may both hold for one value: tell them apart by their types, or by "
          "a required property that has other values in each; or use anyOf",
          k, i);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::set<std::string>>> SchemaReader::TypesOf(const Parts& parts) {
  static constexpr std::string_view kTypes[] = {"string", "number", "integer", "boolean",
                                                "null",   "object", "array"};
  std::optional<std::set<std::string>> types;
  for (const Part& part : parts) {
    const auto type = part.schema->find("type");
    if (type == part.schema->end()) continue;
    std::set<std::string> own;
    const auto add = [&](const Json& name) -> absl::Status {
      if (!name.is_string() || std::ranges::find(kTypes, name.get<std::string>()) == std::end(kTypes)) {
        return FieldError(part.path + ".type",
                          "expected string, number, integer, boolean, null, object or array, found {}",
                          Spelled(name));
      }
      own.insert(name.get<std::string>());
      return absl::OkStatus();
    };
    if (type->is_array()) {
      for (const Json& name : *type) RETURN_IF_ERROR(add(name));
      if (own.empty()) return FieldError(part.path + ".type", "an empty list allows nothing");
    } else {
      RETURN_IF_ERROR(add(*type));
    }
    if (own.contains("number")) own.insert("integer");
    std::set<std::string> both;
    if (types) std::ranges::set_intersection(*types, own, std::inserter(both, both.end()));
    types = types ? std::move(both) : std::move(own);
  }
  // Every integer is a number: two ways to the same.
  if (types && types->contains("number")) types->erase("integer");
  return types;
}

absl::StatusOr<int32_t> SchemaReader::Types(const Parts& parts, int32_t next) {
  ASSIGN_OR_RETURN(auto types, TypesOf(parts));
  for (const auto& [type, keywords] : kImplied) {
    if (types) break;
    const bool implied = std::ranges::any_of(keywords, [&](const char* key) {
      return std::ranges::any_of(parts, [&](const Part& part) { return part.schema->contains(key); });
    });
    if (implied) types = {type};
  }
  if (!types) return json_.AnyValue(next);
  if (types->empty()) return b_.Placeholder();  // nothing is of all of them
  std::vector<int32_t> ways;
  for (const std::string& type : *types) {
    ASSIGN_OR_RETURN(ways.emplace_back(), OfType(type, parts, next));
  }
  return b_.Split(std::move(ways));
}

absl::StatusOr<int32_t> SchemaReader::OfType(const std::string& type, const Parts& parts, int32_t next) {
  if (type == "string") return String(parts, next);
  if (type == "number" || type == "integer") return Number(type == "integer", parts, next);
  if (type == "boolean") return b_.Split({b_.Literal("true", next), b_.Literal("false", next)});
  if (type == "null") return b_.Literal("null", next);
  return type == "object" ? Object(parts, next) : Array(parts, next);
}

absl::StatusOr<int32_t> JsonGrammar::Schema(std::string_view schema, const std::string& path, int32_t next) {
  const Json root = Json::parse(schema, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return FieldError(path, "not JSON");
  return SchemaReader(this, root, path).Read(next);
}

}  // namespace fulger
