// A link from a rank to itself: a queue. One thread sends and receives, so a receive from an empty queue
// could never end; it is INTERNAL at once.
#pragma once

#include <memory>
#include <string>

#include "worker/comm/collective.h"
#include "worker/comm/failure.h"

namespace fulger {

// `failure` is shared with the fabric: an aborted fabric ends its links' operations too.
std::unique_ptr<Link> MakeSelfLink(std::string name, std::shared_ptr<const Failure> failure);

}  // namespace fulger
