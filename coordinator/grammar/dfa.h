// Deterministic automata over Unicode characters: sets of strings that can be intersected. Values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/grammar/char_set.h"

namespace fulger {

// What may still be done to make automata, in steps of some nanoseconds: a schema has one for all its parts.
// When it is used up, what asks for more is refused.
struct WorkBudget {
  int64_t steps = 2'000'000;
  bool Use(int64_t n) { return (steps -= n) >= 0; }
};

struct Dfa {
  static constexpr size_t kMaxStates = 10'000;

  struct Edge {
    CharSet::Range range;
    int32_t to = 0;
  };
  struct State {
    std::vector<Edge> edges;  // ascending, apart from each other
    bool accepts = false;
  };
  // The first is where strings begin. Empty: it accepts nothing at all. From every state an accepting one can
  // be reached.
  std::vector<State> states;

  bool Accepts(std::u32string_view text) const;
};

// Drops the states from which nothing can be accepted.
Dfa Trimmed(Dfa dfa);
// INVALID_ARGUMENT: it would need more than kMaxStates states, or more work than is left.
absl::StatusOr<Dfa> Intersection(const Dfa& a, const Dfa& b, WorkBudget* budget);
absl::Status AutomatonTooLarge();
// All strings that it does not accept.
Dfa Complement(const Dfa& dfa);
// Strings of `least` to `most` characters; most -1: any number.
Dfa StringsOfLength(int64_t least, int64_t most);

}  // namespace fulger
