// Reads a JSON Schema and builds what it allows as parts of a grammar.
//
// What a value must satisfy is a list of schemas that all hold ("parts"): allOf, $ref beside other keywords,
// and a property that several of them describe make it longer; anyOf and oneOf are a choice of what joins it.
// So keywords meet kind by kind, exactly: bounds by the narrower, patterns by intersection of their automata,
// properties and items by lists of parts again. Nothing is ever rewritten: parts point into the one schema.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coordinator/grammar/dfa.h"
#include "coordinator/grammar/json_grammar.h"

namespace fulger {

class SchemaReader {
 public:
  using Json = nlohmann::ordered_json;             // properties come in the schema's order
  static constexpr size_t kMostMembers = 64;       // of oneOf
  static constexpr int kMostDepth = 256;           // of schemas within schemas
  static constexpr size_t kMostSelections = 2000;  // sets of listed items that uniqueItems counts out

  // All outlive the reader. `path`: of the root, for errors.
  SchemaReader(JsonGrammar* json, const Json& root, std::string path);

  // What the root allows, then `next`.
  absl::StatusOr<int32_t> Read(int32_t next) { return Read({{.schema = &root_, .path = root_path_}}, next); }

 private:
  // One of the schemas that a value must satisfy, and what of it has been replaced by other parts.
  enum : unsigned { kAnyOf = 1, kOneOf = 2, kReferences = 4 };
  struct Part {
    const Json* schema = nullptr;
    std::string path;
    unsigned done = 0;
  };
  using Parts = std::vector<Part>;

  // schema_reader.cc: parts, and what they choose between.
  absl::StatusOr<int32_t> Read(const Parts& asked, int32_t next);
  // Parts with what they refer to and the members of their allOf.
  struct Whole {
    Parts parts;
    bool nothing = false;       // nothing can satisfy them
    bool by_reference = false;  // so they may recur
    std::set<const Json*> seen{};
    std::vector<const Json*> within{};  // what is being gathered
  };
  absl::StatusOr<Whole> Gather(const Parts& asked) const;
  absl::Status GatherPart(Part part, Whole* whole) const;
  absl::StatusOr<Part> Target(const Part& part) const;
  absl::StatusOr<int32_t> Body(const Parts& parts, int32_t next);
  absl::StatusOr<int32_t> Choice(const Parts& parts, size_t index, const char* keyword, unsigned bit,
                                 int32_t next);
  absl::Status CheckApart(const Json& members, const std::string& path) const;
  absl::StatusOr<int32_t> Types(const Parts& parts, int32_t next);
  // The types that all parts allow; nullopt: none says anything. "integer" is left out beside "number".
  static absl::StatusOr<std::optional<std::set<std::string>>> TypesOf(const Parts& parts);
  absl::StatusOr<int32_t> OfType(const std::string& type, const Parts& parts, int32_t next);

  // schema_values.cc: values that are listed, strings, numbers.
  // The values that enum and const leave; nullopt: no part lists any.
  absl::StatusOr<std::optional<std::vector<Json>>> Listed(const Parts& parts);
  absl::Status KeepThoseThatHold(const Parts& parts, std::vector<Json>* values);
  static std::string Spelled(const Json& value);  // as it is written
  static std::u32string Characters(std::string_view utf8);
  absl::StatusOr<int32_t> String(const Parts& parts, int32_t next);
  // Patterns, formats and lengths together; nullopt: any string. `lengths`: these as well where nothing else
  // asks for an automaton.
  absl::StatusOr<std::optional<Dfa>> StringsOf(const Parts& parts, bool lengths);
  absl::Status Narrow(const std::string& at, absl::StatusOr<Dfa> by, std::optional<Dfa>* strings);
  absl::StatusOr<int32_t> Number(bool integer, const Parts& parts, int32_t next);
  absl::StatusOr<std::optional<Dfa>> NumbersOf(bool integer, const Parts& parts);
  struct Range {
    int64_t least = 0, most = -1;   // -1: no limit
    std::string least_at, most_at;  // the keywords
    bool any() const { return least == 0 && most < 0; }
    bool none() const { return most >= 0 && least > most; }
  };
  static absl::StatusOr<Range> RangeOf(const Parts& parts, const char* least, const char* most);

  // schema_containers.cc
  absl::StatusOr<int32_t> Array(const Parts& parts, int32_t next);
  // What the item at `index` must satisfy.
  static Parts Item(const Parts& arrays, size_t index);
  // Items of which no two are alike: they are listed, and what is used up is counted out.
  absl::StatusOr<int32_t> UniqueItems(const std::string& at, const Parts& arrays, const Range& range,
                                      int32_t next);
  struct Property {
    std::string name;
    std::string required_at{};     // empty: it may be missing
    std::vector<Part> schemas{};   // that list it
    std::set<size_t> listed_by{};  // by index of the object
  };
  static absl::StatusOr<std::vector<Property>> Properties(const Parts& objects);
  struct Governed {
    Parts parts;  // that the value of a property must satisfy
    bool forbidden = false;
  };
  absl::StatusOr<Governed> Govern(const Property& property, const Parts& objects);
  absl::StatusOr<int32_t> Object(const Parts& parts, int32_t next);
  static Dfa TheseNames(const std::vector<Property>& properties);
  // The ways to write a pair whose name is not listed, then `behind`.
  absl::StatusOr<std::vector<int32_t>> OpenPairs(const Parts& objects, const std::vector<Property>& listed,
                                                 int32_t behind);
  // The names in which the expression is found.
  absl::StatusOr<const Dfa*> NamesOf(const std::string& expression, const std::string& at);
  // A rule for what the parts allow.
  absl::StatusOr<int32_t> Rule(const Parts& parts);

  JsonGrammar& json_;
  GrammarBuilder& b_;
  const Json& root_;
  const std::string root_path_;
  std::map<std::vector<std::pair<const Json*, unsigned>>, int32_t>
      rules_;                         // of parts that were reached by $ref
  std::map<std::string, Dfa> names_;  // by expression of patternProperties
  WorkBudget budget_;
  int depth_ = 0;
};

}  // namespace fulger
