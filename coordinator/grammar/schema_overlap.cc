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
    // All of these hold, so one that keeps them apart is enough.
    std::vector<const Json*> parts_a, parts_b;
    Gather(a, &parts_a);
    Gather(b, &parts_b);
    return ChoicesApart(parts_a, b) || ChoicesApart(parts_b, a) ||
           std::ranges::any_of(parts_a,
                               [&](const Json* x) {
                                 return std::ranges::any_of(parts_b,
                                                            [&](const Json* y) { return Apart(*x, *y); });
                               }) ||
           (BothObjects(parts_a, parts_b) &&
            (RequiredApart(parts_a, parts_b) || RequiredApart(parts_b, parts_a)));
  }

 private:
  // The schema, what it refers to and the members of its allOf.
  void Gather(const Json& schema, std::vector<const Json*>* parts) {
    if (!schema.is_object() || std::ranges::find(*parts, &schema) != parts->end()) return;
    if (++steps_ > kMostSteps) return;
    parts->push_back(&schema);
    if (const Json* target = Target(schema)) Gather(*target, parts);
    const auto all = schema.find("allOf");
    if (all == schema.end() || !all->is_array()) return;
    for (const Json& member : *all) Gather(member, parts);
  }

  bool ChoicesApart(const std::vector<const Json*>& parts, const Json& other) {
    for (const Json* part : parts) {
      for (const char* keyword : {"anyOf", "oneOf"}) {
        const auto ways = part->find(keyword);
        if (ways == part->end() || !ways->is_array()) continue;
        if (std::ranges::all_of(*ways, [&](const Json& way) { return Disjoint(way, other); })) return true;
      }
    }
    return false;
  }

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

  bool Apart(const Json& a, const Json& b) {
    if (++steps_ > kMostSteps) return false;
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

  static const Json* Property(const Json& schema, const std::string& name) {
    const auto properties = schema.find("properties");
    if (properties == schema.end() || !properties->is_object()) return nullptr;
    const auto found = properties->find(name);
    return found == properties->end() ? nullptr : &*found;
  }
  static bool Forbids(const Json& schema, const std::string& name) {
    const auto additional = schema.find("additionalProperties");
    return additional != schema.end() && *additional == false && Property(schema, name) == nullptr &&
           !schema.contains("patternProperties");
  }

  bool ObjectsApart(const Json& a, const Json& b) {
    return RequiredApart({&a}, {&b}) || RequiredApart({&b}, {&a});
  }
  static bool BothObjects(const std::vector<const Json*>& a, const std::vector<const Json*>& b) {
    std::set<std::string> types = Types(Json::object());
    for (const auto* parts : {&a, &b}) {
      for (const Json* part : *parts) {
        std::set<std::string> both;
        std::ranges::set_intersection(types, Types(*part), std::inserter(both, both.end()));
        types = std::move(both);
      }
    }
    return std::ranges::all_of(types, [](const std::string& type) { return type == "object"; });
  }
  // Whether a property that some of `one` require is forbidden by some of the others, or has no value for
  // all.
  bool RequiredApart(const std::vector<const Json*>& one, const std::vector<const Json*>& other) {
    for (const Json* requiring : one) {
      const auto required = requiring->find("required");
      if (required == requiring->end() || !required->is_array()) continue;
      for (const Json& entry : *required) {
        if (!entry.is_string()) continue;
        const auto name = entry.get<std::string>();
        for (const Json* b : other) {
          if (Forbids(*b, name)) return true;
          const Json* theirs = Property(*b, name);
          if (theirs == nullptr) continue;
          for (const Json* a : one) {
            const Json* mine = Property(*a, name);
            if (mine != nullptr && Disjoint(*mine, *theirs)) return true;
          }
        }
      }
    }
    return false;
  }

  const Json& root_;
  int steps_ = 0;
};

}  // namespace

bool SameValue(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) return a.get<double>() == b.get<double>();
  return nlohmann::json(a) == nlohmann::json(b);  // whatever the order of properties
}

bool Disjoint(const Json& a, const Json& b, const Json& root) { return Overlap(root).Disjoint(a, b); }

}  // namespace fulger
