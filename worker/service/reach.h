// Whether this host can reach another one, and why not, in words: by plain TCP, before gRPC, MPI or NCCL is
// asked to, which would retry or hang without a name for the reason.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace fulger {

// Connects to HOST:PORT and hangs up. Not OK: nobody has that name, nothing listens there, no route, no
// answer. An address of a Unix socket is OK. May take longer than `deadline` where the resolver does.
absl::Status Reach(const std::string& address, std::chrono::milliseconds deadline);

// One rank of every other host, all at once: the failures, whose messages name both ends. `addresses` by
// rank.
std::vector<absl::Status> UnreachedHosts(int rank, std::span<const std::string> addresses,
                                         std::chrono::milliseconds deadline);
// The first of them.
absl::Status ReachHosts(int rank, std::span<const std::string> addresses, std::chrono::milliseconds deadline);

// The address of this host as it is seen on the way to HOST:PORT: what others there can dial, whatever this
// host's own name resolves to (127.0.1.1 on many). Empty where there is no way.
std::string OwnAddressTowards(const std::string& address);

}  // namespace fulger
