// JSON, and what a JSON Schema allows of it, as parts of a grammar.
//
// The subset of JSON Schema, by keyword:
//   type            string, number, integer, boolean, null, object, array, or a list of these
//   enum, const     any values; written without white space. Objects and arrays not beside keywords about
//   what
//                   is in them
//   properties, required, additionalProperties
//                   properties come in the order of the schema; properties that it does not list come only
//                   where it lists none and does not forbid them
//   patternProperties
//                   behind the listed properties, in any number and order. Of listed ones all expressions
//                   count; other names are written where one expression is found in them and no second one,
//                   and where none is as above
//   items, prefixItems, minItems, maxItems
//   uniqueItems     of items that enum or const list, or that are booleans or null, with at most 2,000 sets
//   of
//                   them; or of one item
//   minLength, maxLength (in characters)
//   pattern         see regex.h: what it supports of ECMA 262
//   format          see string_formats.h: date, date-time, time, duration, uuid, email, hostname, ipv4, ipv6,
//                   uri (http, https), json-pointer; of strings only
//   minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf
//                   decimal and exact; such numbers are written without exponent
//   allOf, anyOf    beside any other keywords: what is said twice about a value holds twice, exactly
//   oneOf           the same, of members that cannot hold together (see schema_overlap.h)
//   $ref            the same, into the same schema: "#", "#/$defs/NAME", any JSON pointer; may recur
//   annotations     title, description, default, examples, deprecated, readOnly, writeOnly, $schema, $id,
//                   $comment, $defs, definitions: no meaning
//   true, false, {} anything, nothing, anything
// Any other keyword is refused by name: what is written always satisfies the whole schema. "not" cannot be
// had: the values that are left would have to be spelled out.
//
// White space: none or one space, or a line break and up to 40 spaces, behind { [ , : and before } ]. Text in
// strings is UTF-8 or escapes; \u for no surrogates. Numbers have JSON's form, of any length, with exponents
// of at most two digits. Nested at most 96 rules deep.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/status.h"
#include "coordinator/grammar/grammar.h"

namespace fulger {

class JsonGrammar {
 public:
  static constexpr int64_t kMaxCount = 4096;  // minLength, maxItems, ...

  explicit JsonGrammar(GrammarBuilder* builder) : builder_(builder) {}

  // Any object, then `next`.
  int32_t AnyObject(int32_t next) { return builder_->Call(ObjectRule(), next); }
  // What the schema (JSON text) allows, then `next`. INVALID_ARGUMENT with the field at fault: `path` and the
  // place in the schema.
  absl::StatusOr<int32_t> Schema(std::string_view schema, const std::string& path, int32_t next);

 private:
  friend class SchemaReader;

  int32_t Space(int32_t next);  // optional white space
  int32_t String(int32_t next);
  int32_t StringOfLength(int64_t least, int64_t most, int32_t next);  // most -1: any
  int32_t Number(int32_t next);
  int32_t Integer(int32_t next);
  int32_t AnyValue(int32_t next) { return builder_->Call(ValueRule(), next); }
  int32_t AnyArray(int32_t next) { return builder_->Call(ArrayRule(), next); }
  int32_t ListOf(char open, char close, int32_t item_rule, int32_t next);
  int32_t Character(int32_t next);
  int32_t Digits(int32_t next);

  int32_t SpaceRule();
  int32_t StringRule();
  int32_t NumberRule();
  int32_t IntegerRule();
  int32_t ValueRule();
  int32_t ObjectRule();
  int32_t ArrayRule();
  int32_t CharacterRule();

  GrammarBuilder* const builder_;
  std::map<std::string, int32_t> rules_;  // by name, once made
};

// One character of UTF-8, then `next`: `ascii` says which ASCII.
int32_t Utf8Character(GrammarBuilder* builder, const ByteSet& ascii, int32_t next);

}  // namespace fulger
