// When the tokens of each stream were written to its socket, seen by standing before libc's send and recv:
// the server under measurement needs no hook for it.
#pragma once

#include "tests/bench/stream_clients.h"

namespace fulger {

// From now on; `times` must live until null is given. Streams are known by the x-request-id of what is
// received.
void WatchSockets(const TokenTimes* times);

}  // namespace fulger
