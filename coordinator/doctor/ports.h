// Whether a port is free, and who has it; and this host's address.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace fulger {

// OK: a server may listen on it (port 0 always may). UNAVAILABLE: "127.0.0.1:8000 is taken by pid 4711
// (nginx)", where the holder can be seen; FAILED_PRECONDITION: no address of this host, or no permission.
absl::Status CheckPort(const std::string& host, uint16_t port);

// What other hosts can dial: this host's name, or where that is 127.x to itself (as on many), the first
// address of an interface. 127.0.0.1 where there is none.
std::string OwnAddress();

}  // namespace fulger
