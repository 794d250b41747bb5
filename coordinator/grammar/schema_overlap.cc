#include "coordinator/grammar/schema_overlap.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostSteps = 2000;  // of one question: schemas may refer to themselves, and branch

// Names of types, with integer apart from other numbers.
std::set<std::string> TypesOfValue(const Json& value) {
  if (value.is_string()) return {"string"};
  if (value.is_boolean()) return {"boolean"};
  if (value.is_null()) return {"null"};
  if (value.is_object()) return {"object"};
  if (value.is_array()) return {"array"};
  if (value.is_number_float() && std::trunc(value.get<double>()) != value.get<double>()) {
    return {"fraction"};
  }
  return {"integer"};
}

class Overlap {
 public:
  explicit Overlap(const Json& root) : root_(root) {}

  bool Disjoint(const Json& a, const Json& b) {
    if (++steps_ > kMostSteps) return false;
    if (a == false || b == false) return true;
    if (!a.is_object() || !b.is_object()) return false;
    for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      if (const Json* target = Target(*one)) return Disjoint(*target, *other);
      for (const char* keyword : {"anyOf", "oneOf"}) {
        const auto ways = one->find(keyword);
        if (ways == one->end() || !ways->is_array()) continue;
        const Json* fixed = other;
        return std::ranges::all_of(*ways, [&](const Json& way) { return Disjoint(way, *fixed); });
      }
      if (const auto all = one->find("allOf"); all != one->end() && all->is_array()) {
        const Json* fixed = other;
        return std::ranges::any_of(*all, [&](const Json& part) { return Disjoint(part, *fixed); });
      }
    }
    return Apart(a, b);
  }

 private:
  const Json* Target(const Json& schema) const {
    const auto ref = schema.find("$ref");
    if (ref == schema.end() || !ref->is_string()) return nullptr;
    const auto text = ref->get<std::string>();
    if (text == "#") return &root_;
    if (!text.starts_with("#/")) return nullptr;
    try {
      const Json::json_pointer pointer(text.substr(1));
      return root_.contains(pointer) ? &root_.at(pointer) : nullptr;
    } catch (const Json::exception&) {
      return nullptr;
    }
  }

  // The values that a schema lists; none: it lists none.
  static std::optional<std::vector<Json>> Values(const Json& schema) {
    if (const auto value = schema.find("const"); value != schema.end()) return std::vector<Json>{*value};
    const auto values = schema.find("enum");
    if (values == schema.end() || !values->is_array()) return std::nullopt;
    return std::vector<Json>(values->begin(), values->end());
  }

  static std::set<std::string> Types(const Json& schema) {
    std::set<std::string> types;
    const auto add = [&](const Json& name) {
      if (!name.is_string()) return;
      types.insert(name.get<std::string>());
      if (name == "number") types.insert({"integer", "fraction"});
    };
    const auto type = schema.find("type");
    if (type != schema.end() && type->is_array()) {
      for (const Json& name : *type) add(name);
    } else if (type != schema.end()) {
      add(*type);
    } else if (const auto values = Values(schema)) {
      for (const Json& value : *values) types.merge(TypesOfValue(value));
    } else {
      return {"string", "boolean", "null", "object", "array", "integer", "fraction"};
    }
    types.erase("number");
    return types;
  }

  static bool SameValue(const Json& a, const Json& b) {
    if (a.is_number() && b.is_number()) return a.get<double>() == b.get<double>();
    return nlohmann::json(a) == nlohmann::json(b);  // whatever the order of properties
  }

  bool Apart(const Json& a, const Json& b) {
    const auto listed_a = Values(a), listed_b = Values(b);
    if (listed_a && listed_b) {
      return std::ranges::none_of(*listed_a, [&](const Json& x) {
        return std::ranges::any_of(*listed_b, [&](const Json& y) { return SameValue(x, y); });
      });
    }
    std::set<std::string> both;
    std::ranges::set_intersection(Types(a), Types(b), std::inserter(both, both.end()));
    if (both.empty()) return true;
    return std::ranges::all_of(both, [&](const std::string& type) {
      if (type == "object") return ObjectsApart(a, b);
      if (type == "integer" || type == "fraction") return BoundsApart(a, b, "minimum", "maximum");
      if (type == "array") return BoundsApart(a, b, "minItems", "maxItems");
      return type == "string" && BoundsApart(a, b, "minLength", "maxLength");
    });
  }

  static bool BoundsApart(const Json& a, const Json& b, const char* least, const char* most) {
    const auto of = [](const Json& schema, const char* key) -> std::optional<double> {
      const auto found = schema.find(key);
      if (found == schema.end() || !found->is_number()) return std::nullopt;
      return found->get<double>();
    };
    const auto above = [&](const Json& high, const Json& low) {
      const auto from = of(high, least), to = of(low, most);
      return from && to && *from > *to;
    };
    return above(a, b) || above(b, a);
  }

  static bool Requires(const Json& schema, const std::string& name) {
    const auto required = schema.find("required");
    return required != schema.end() && required->is_array() &&
           std::ranges::find(*required, Json(name)) != required->end();
  }
  static const Json* Property(const Json& schema, const std::string& name) {
    const auto properties = schema.find("properties");
    if (properties == schema.end() || !properties->is_object()) return nullptr;
    const auto found = properties->find(name);
    return found == properties->end() ? nullptr : &*found;
  }
  static bool Forbids(const Json& schema, const std::string& name) {
    const auto additional = schema.find("additionalProperties");
    return additional != schema.end() && *additional == false && Property(schema, name) == nullptr;
  }

  bool ObjectsApart(const Json& a, const Json& b) {
    for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      const auto required = one->find("required");
      if (required == one->end() || !required->is_array()) continue;
      for (const Json& entry : *required) {
        if (!entry.is_string()) continue;
        const auto name = entry.get<std::string>();
        if (Forbids(*other, name)) return true;
        const Json *mine = Property(*one, name), *theirs = Property(*other, name);
        if (mine != nullptr && theirs != nullptr && Disjoint(*mine, *theirs)) return true;
      }
    }
    return false;
  }

  const Json& root_;
  int steps_ = 0;
};

}  // namespace

bool Disjoint(const Json& a, const Json& b, const Json& root) { return Overlap(root).Disjoint(a, b); }

}  // namespace fulger
