// Whether a run may be believed: what was sent, what came and what the server says it made must agree.
#pragma once

#include <string>
#include <vector>

#include "coordinator/bench/load.h"

namespace fulger::bench {

struct BookRules {
  bool one_token_per_event = true;  // false: a server may put several into one
  bool exact_length = true;     // ignore_eos was sent: an answer that ends by length has max_tokens tokens
  double allowed_failures = 0;  // share of what was sent
};
// One line for each that does not balance, with the first request at fault; empty: all do.
std::vector<std::string> CheckBooks(const LoadResult& result, const BookRules& rules);

}  // namespace fulger::bench
