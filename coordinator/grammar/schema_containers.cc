// Arrays and objects.
#include <algorithm>
#include <bit>

#include "coordinator/frontend/field_error.h"
#include "coordinator/grammar/dfa_grammar.h"
#include "coordinator/grammar/regex.h"
#include "coordinator/grammar/schema_overlap.h"
#include "coordinator/grammar/schema_reader.h"

namespace fulger {

using Json = SchemaReader::Json;

absl::StatusOr<int32_t> SchemaReader::Rule(const Parts& parts) {
  return parts.empty() ? json_.ValueRule() : Read(parts, b_.end());
}

SchemaReader::Parts SchemaReader::Item(const Parts& arrays, size_t index) {
  Parts item;
  for (const Part& array : arrays) {
    const auto prefix = array.schema->find("prefixItems");
    if (prefix != array.schema->end() && index < prefix->size()) {
      item.push_back(
          {.schema = &(*prefix)[index], .path = fmt::format("{}.prefixItems[{}]", array.path, index)});
    } else if (const auto items = array.schema->find("items"); items != array.schema->end()) {
      item.push_back({.schema = &*items, .path = array.path + ".items"});
    }
  }
  return item;
}

absl::StatusOr<int32_t> SchemaReader::Array(const Parts& parts, int32_t next) {
  ASSIGN_OR_RETURN(const Range range, RangeOf(parts, "minItems", "maxItems"));
  int64_t places = 0;  // whose items may differ from those behind
  std::string unique_at;
  for (const Part& part : parts) {
    if (const auto prefix = part.schema->find("prefixItems"); prefix != part.schema->end()) {
      if (!prefix->is_array()) return FieldError(part.path + ".prefixItems", "expected a list of schemas");
      places = std::max(places, std::ssize(*prefix));
    }
    if (const auto items = part.schema->find("items"); items != part.schema->end() && items->is_array())
      return FieldError(part.path + ".items", "expected a schema; a list of them is called prefixItems");
    const auto unique = part.schema->find("uniqueItems");
    if (unique == part.schema->end()) continue;
    if (!unique->is_boolean()) return FieldError(part.path + ".uniqueItems", "expected true or false");
    if (unique->get<bool>()) unique_at = part.path + ".uniqueItems";
  }
  if (places > JsonGrammar::kMaxCount)
    return FieldError(parts.front().path + ".prefixItems", "at most {} are supported",
                      JsonGrammar::kMaxCount);
  if (range.none()) return b_.Placeholder();
  if (!unique_at.empty() && (range.most < 0 || range.most > 1)) {
    if (places > 0) return FieldError(unique_at, "not together with prefixItems");
    return UniqueItems(unique_at, parts, range, next);
  }
  ASSIGN_OR_RETURN(const int32_t item, Rule(Item(parts, static_cast<size_t>(places))));
  if (range.any() && places == 0) return json_.ListOf('[', ']', item, next);

  // From the last item on: `behind` where `made` items stand in front.
  const int32_t close = b_.Literal("]", next);
  const int32_t end = json_.Space(close);
  int32_t behind = end;
  int64_t made = std::max<int64_t>(range.most, 0);
  if (range.most < 0) {
    behind = b_.Placeholder();
    b_.Fill(behind, end);
    b_.Fill(behind, b_.Literal(",", json_.Space(b_.Call(item, behind))));
    made = std::max(range.least, places);
  }
  const auto one = [&](int64_t index, int32_t then) -> absl::StatusOr<int32_t> {
    if (index >= places) return b_.Call(item, then);
    const Parts parts_of_it = Item(parts, static_cast<size_t>(index));
    return parts_of_it.empty() ? json_.AnyValue(then) : Read(parts_of_it, then);
  };
  for (; made > 1; --made) {
    ASSIGN_OR_RETURN(const int32_t another, one(made - 1, behind));
    const int32_t more = b_.Literal(",", json_.Space(another));
    behind = made > range.least ? b_.Split({end, more}) : more;
  }
  if (made == 0) return b_.Literal("[", json_.Space(close));
  ASSIGN_OR_RETURN(const int32_t first, one(0, behind));
  return b_.Literal("[", json_.Space(range.least == 0 ? b_.Split({close, first}) : first));
}

absl::StatusOr<int32_t> SchemaReader::UniqueItems(const std::string& at, const Parts& arrays,
                                                  const Range& range, int32_t next) {
  ASSIGN_OR_RETURN(const Whole whole, Gather(Item(arrays, 0)));
  const bool chooses = std::ranges::any_of(whole.parts, [](const Part& part) {
    return part.schema->contains("anyOf") || part.schema->contains("oneOf");
  });
  std::optional<std::vector<Json>> listed;
  if (whole.nothing) listed.emplace();
  if (!whole.nothing && !chooses) {
    ASSIGN_OR_RETURN(listed, Listed(whole.parts));
    ASSIGN_OR_RETURN(const auto types, TypesOf(whole.parts));
    const auto few = [](const std::string& type) { return type == "boolean" || type == "null"; };
    if (!listed && types && std::ranges::all_of(*types, few)) {
      listed.emplace();
      if (types->contains("boolean")) listed->assign({Json(true), Json(false)});
      if (types->contains("null")) listed->push_back(nullptr);
    }
  }
  std::vector<Json> values;
  for (const Json& value : listed.value_or(std::vector<Json>())) {
    if (std::ranges::none_of(values, [&](const Json& v) { return SameValue(v, value); }))
      values.push_back(value);
    if (values.size() > 64) break;
  }
  // Sets of values that are used up, by size. Each is a node of the grammar.
  const int64_t most = range.most < 0 ? std::ssize(values) : std::min(range.most, std::ssize(values));
  std::vector<std::set<uint64_t>> used(1, {0});
  size_t sets = 1;
  while (listed && values.size() <= 64 && std::ssize(used) <= most && sets <= kMostSelections) {
    std::set<uint64_t>& larger = used.emplace_back();
    for (const uint64_t set : used[used.size() - 2]) {
      for (size_t v = 0; v < values.size(); ++v) {
        if ((set >> v & 1) == 0) larger.insert(set | uint64_t{1} << v);
      }
      if (larger.size() > kMostSelections) break;
    }
    sets += larger.size();
  }
  if (!listed || values.size() > 64 || sets > kMostSelections) {
    return FieldError(
        at,
        "supported of items that are listed by enum or const, or are booleans or null, with at most "
        "{} sets of them: what was written before cannot be kept track of",
        kMostSelections);
  }
  if (range.least > most) return b_.Placeholder();

  const int32_t close = b_.Literal("]", next);
  const int32_t end = json_.Space(close);
  std::map<uint64_t, int32_t> behind;  // by the set of values in front
  int32_t opened = b_.Placeholder();
  for (size_t size = static_cast<size_t>(most) + 1; size-- > 0;) {
    for (const uint64_t set : used[size]) {
      std::vector<int32_t> ways;
      if (std::cmp_greater_equal(size, range.least)) ways.push_back(size == 0 ? close : end);
      for (size_t v = 0; v < values.size(); ++v) {
        const auto then = behind.find(set | uint64_t{1} << v);
        if ((set >> v & 1) != 0 || then == behind.end()) continue;
        const int32_t value = b_.Literal(Spelled(values[v]), then->second);
        ways.push_back(size == 0 ? value : b_.Literal(",", json_.Space(value)));
      }
      opened = behind[set] = b_.Split(std::move(ways));
    }
  }
  return b_.Literal("[", json_.Space(opened));
}

absl::StatusOr<std::vector<SchemaReader::Property>> SchemaReader::Properties(const Parts& objects) {
  std::vector<Property> properties;
  std::map<std::string, size_t> index;
  const auto named = [&](const std::string& name) -> Property& {
    const auto [known, fresh] = index.try_emplace(name, properties.size());
    if (fresh) properties.push_back({.name = name});
    return properties[known->second];
  };
  for (size_t i = 0; i < objects.size(); ++i) {
    const auto listed = objects[i].schema->find("properties");
    if (listed == objects[i].schema->end()) continue;
    const std::string at = objects[i].path + ".properties";
    if (!listed->is_object()) return FieldError(at, "expected an object");
    for (const auto& [name, schema] : listed->items()) {
      Property& property = named(name);
      property.schemas.push_back({.schema = &schema, .path = at + "." + name});
      property.listed_by.insert(i);
    }
  }
  for (const Part& object : objects) {
    const auto required = object.schema->find("required");
    if (required == object.schema->end()) continue;
    if (!required->is_array()) return FieldError(object.path + ".required", "expected a list of names");
    for (const Json& entry : *required) {
      if (!entry.is_string())
        return FieldError(object.path + ".required", "expected names, found {}", Spelled(entry));
      named(entry.get<std::string>()).required_at = object.path + ".required";
    }
  }
  return properties;
}

absl::StatusOr<const Dfa*> SchemaReader::NamesOf(const std::string& expression, const std::string& at) {
  const auto known = names_.find(expression);
  if (known != names_.end()) return &known->second;
  auto names = CompileSearch(expression, &budget_);
  if (!names.ok()) return FieldError(at, "{}", Message(names.status()));
  return &names_.emplace(expression, *std::move(names)).first->second;
}

absl::StatusOr<SchemaReader::Governed> SchemaReader::Govern(const Property& property, const Parts& objects) {
  Governed governed{.parts = property.schemas};
  for (size_t i = 0; i < objects.size(); ++i) {
    const Part& object = objects[i];
    bool named = property.listed_by.contains(i);
    const auto patterns = object.schema->find("patternProperties");
    if (patterns != object.schema->end()) {
      for (const auto& [expression, schema] : patterns->items()) {
        const std::string at = object.path + ".patternProperties." + expression;
        ASSIGN_OR_RETURN(const Dfa* names, NamesOf(expression, at));
        if (!names->Accepts(Characters(property.name))) continue;
        named = true;
        governed.parts.push_back({.schema = &schema, .path = at});
      }
    }
    const auto additional = object.schema->find("additionalProperties");
    if (named || additional == object.schema->end()) continue;
    governed.forbidden = governed.forbidden || *additional == false;
    governed.parts.push_back({.schema = &*additional, .path = object.path + ".additionalProperties"});
  }
  return governed;
}

// The names as an automaton.
Dfa SchemaReader::TheseNames(const std::vector<Property>& properties) {
  std::vector<std::map<char32_t, int32_t>> edges(1);
  std::vector<bool> ends(1, false);
  for (const Property& property : properties) {
    size_t at = 0;
    for (const char32_t c : Characters(property.name)) {
      const auto [to, fresh] = edges[at].try_emplace(c, static_cast<int32_t>(edges.size()));
      at = static_cast<size_t>(to->second);
      if (!fresh) continue;
      edges.emplace_back();
      ends.push_back(false);
    }
    ends[at] = true;
  }
  Dfa names;
  for (size_t i = 0; i < edges.size(); ++i) {
    Dfa::State& state = names.states.emplace_back();
    state.accepts = ends[i];
    for (const auto& [c, to] : edges[i]) state.edges.push_back({.range = {c, c}, .to = to});
  }
  return names;
}

// Names in which one expression is found and no other one, and names in which none is. What several govern is
// left out: an answer may do without.
absl::StatusOr<std::vector<int32_t>> SchemaReader::OpenPairs(const Parts& objects,
                                                             const std::vector<Property>& listed,
                                                             int32_t behind) {
  std::map<std::string, std::string> expressions;  // and where they stand first
  for (const Part& object : objects) {
    const auto patterns = object.schema->find("patternProperties");
    if (patterns == object.schema->end()) continue;
    for (const auto& [expression, schema] : patterns->items())
      expressions.try_emplace(expression, object.path + ".patternProperties." + expression);
  }
  if (expressions.empty() && !listed.empty()) return std::vector<int32_t>();
  std::optional<Dfa> open;
  if (!listed.empty()) open = Complement(TheseNames(listed));
  std::vector<int32_t> ways;
  const auto add = [&](const std::string* mine, const std::string& at) -> absl::Status {
    Parts value;
    for (const Part& object : objects) {
      const auto patterns = object.schema->find("patternProperties");
      const auto additional = object.schema->find("additionalProperties");
      if (mine != nullptr && patterns != object.schema->end() && patterns->contains(*mine)) {
        value.push_back({.schema = &(*patterns)[*mine], .path = at});
      } else if (additional != object.schema->end()) {
        if (*additional == false) return absl::OkStatus();
        value.push_back({.schema = &*additional, .path = object.path + ".additionalProperties"});
      }
    }
    std::optional<Dfa> names = open;
    for (const auto& [expression, where] : expressions) {
      ASSIGN_OR_RETURN(const Dfa* found, NamesOf(expression, where));
      const bool own = mine != nullptr && *mine == expression;
      RETURN_IF_ERROR(Narrow(where, own ? *found : Complement(*found), &names));
    }
    ASSIGN_OR_RETURN(const int32_t rule, Rule(value));
    const int32_t then = b_.Literal(":", json_.Space(b_.Call(rule, behind)));
    ways.push_back(names ? JsonStringsOf(&b_, *names, then) : json_.String(then));
    return absl::OkStatus();
  };
  for (const auto& [expression, where] : expressions) RETURN_IF_ERROR(add(&expression, where));
  if (listed.empty()) RETURN_IF_ERROR(add(nullptr, root_path_));
  return ways;
}

absl::StatusOr<int32_t> SchemaReader::Object(const Parts& parts, int32_t next) {
  for (const Part& part : parts) {
    const auto additional = part.schema->find("additionalProperties");
    if (additional != part.schema->end() && !additional->is_boolean() && !additional->is_object())
      return FieldError(part.path + ".additionalProperties", "expected a schema");
    const auto patterns = part.schema->find("patternProperties");
    if (patterns != part.schema->end() && !patterns->is_object())
      return FieldError(part.path + ".patternProperties", "expected an object");
  }
  ASSIGN_OR_RETURN(const std::vector<Property> properties, Properties(parts));
  // Behind the listed properties, as often as one likes, those that are not.
  const int32_t close = b_.Literal("}", next);
  int32_t behind = b_.Placeholder(), first = close;
  b_.Fill(behind, json_.Space(close));
  ASSIGN_OR_RETURN(std::vector<int32_t> open, OpenPairs(parts, properties, behind));
  if (!open.empty()) {
    const int32_t pair = b_.Split(std::move(open));
    b_.Fill(behind, b_.Literal(",", json_.Space(pair)));
    first = b_.Split({pair, close});
  }
  // From the last on: `behind` where a property stands in front, `first` where none does.
  for (size_t i = properties.size(); i-- > 0;) {
    const Property& property = properties[i];
    const bool required = !property.required_at.empty();
    ASSIGN_OR_RETURN(const Governed governed, Govern(property, parts));
    if (governed.forbidden) {
      if (required)
        return FieldError(property.required_at, "\"{}\" is required and forbidden", property.name);
      continue;
    }
    int32_t value = 0;
    if (governed.parts.empty()) {
      value = json_.AnyValue(behind);
    } else {
      ASSIGN_OR_RETURN(value, Read(governed.parts, behind));
    }
    const int32_t pair = b_.Literal(Spelled(Json(property.name)) + ":", json_.Space(value));
    const int32_t another = b_.Literal(",", json_.Space(pair));
    behind = required ? another : b_.Split({another, behind});
    first = required ? pair : b_.Split({pair, first});
  }
  return b_.Literal("{", json_.Space(first));
}

}  // namespace fulger
