// What a request found in the prefix cache, and why it found no more.
#pragma once

#include <cstdint>
#include <string>

namespace fulger {

// Positions in the prompt.
struct CacheReport {
  bool used = true;     // false: off, or the request went past it
  int64_t cached = 0;   // the request continued from an anchor here
  int64_t matched = 0;  // the content up to here was known: at this position it first differed
  int64_t lost = 0;     // the deepest usable anchor that had been evicted; 0: none
};

// One sentence, for people.
std::string Describe(const CacheReport& report, int64_t prompt_tokens);

}  // namespace fulger
