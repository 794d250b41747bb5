// Whether no value can satisfy two JSON Schemas at once: what oneOf needs to be written as a choice.
#pragma once

#include <nlohmann/json.hpp>

namespace fulger {

// True only where it is certain: other types, no value in common, bounds that do not meet, objects that a
// property of both tells apart (or that one requires and the other forbids). `root`: where $ref points into.
bool Disjoint(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b,
              const nlohmann::ordered_json& root);

}  // namespace fulger
