// The tokens that a grammar allows at one place of one answer.
#pragma once

#include <cstdint>
#include <string>

namespace fulger {

// Immutable, and shared by all sequences that are at such a place.
struct TokenMask {
  uint64_t id = 0;   // > 0; another for every mask of this process
  std::string bits;  // bit i % 8 of byte i / 8: token i may come; ceil(vocabulary / 8) bytes
};

}  // namespace fulger
