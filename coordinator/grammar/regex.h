// Regular expressions of JSON Schema (ECMA 262, with the u flag) as automata: a string is never matched by
// trying, so no shape of expression takes long, and one that would need too large an automaton is refused.
//
// The subset: literals, ".", classes with ranges and negation, \d \w \s \D \W \S, escapes of characters
// (\n \t \r \f \v \0 \xHH \uHHHH \u{H...}, and a backslash before any punctuation), groups (named ones too),
// "|", * + ? {n} {n,} {n,m}, greedy or lazy, ^ and $. Not: back references, look-around, \b, \B, \p{...}.
#pragma once

#include <string_view>

#include "base/status.h"
#include "coordinator/grammar/dfa.h"

namespace fulger {

// All strings in which the expression is found somewhere (as JSON Schema's pattern means it; ^ and $ tie it
// down). INVALID_ARGUMENT: no such expression, none that is supported, or too large.
absl::StatusOr<Dfa> CompileSearch(std::string_view expression, WorkBudget* budget);
// All strings that the expression matches from beginning to end. Of our own expressions.
Dfa CompileWhole(std::string_view expression);

}  // namespace fulger
