// Whether no value can satisfy two JSON Schemas at once: what oneOf needs to be written as a choice.
#pragma once

#include <nlohmann/json.hpp>

namespace fulger {

// True only where it is certain: other types, no value in common, bounds that do not meet, objects that a
// property of both tells apart (or that one requires and the other forbids). `root`: where $ref points into.
bool Disjoint(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b,
              const nlohmann::ordered_json& root);

// Whether they are one value to JSON Schema: 1 and 1.0 are. May say so of numbers beyond 2^53 that are not.
bool SameValue(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b);

}  // namespace fulger
