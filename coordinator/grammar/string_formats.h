// JSON Schema's formats of strings, as automata. Each is as strict as the standard that defines it, or
// stricter: what it accepts is valid, and some unusual spellings are left out.
#pragma once

#include <string>
#include <string_view>

#include "coordinator/grammar/dfa.h"

namespace fulger {

// Null for a format that is not known here. Compiled once; lives as long as the program. Thread-safe.
const Dfa* StringFormat(std::string_view name);
// "date, date-time, ...": for messages.
std::string KnownStringFormats();

}  // namespace fulger
