// Automata over characters as parts of a grammar over bytes.
#pragma once

#include <cstdint>

#include "coordinator/grammar/dfa.h"
#include "coordinator/grammar/grammar.h"

namespace fulger {

// The strings of `dfa` as JSON strings with their quotes, then `next`. Each character has one spelling: as it
// is, or the shortest escape where it must be escaped.
int32_t JsonStringsOf(GrammarBuilder* builder, const Dfa& dfa, int32_t next);
// As they are, without quotes.
int32_t PlainTextOf(GrammarBuilder* builder, const Dfa& dfa, int32_t next);

}  // namespace fulger
