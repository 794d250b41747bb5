// The directed links of a replica, by name, as each rank connects them. Both ends use the same names in the
// same order.
#pragma once

#include <memory>
#include <vector>

#include "model/layout.h"
#include "worker/comm/collective.h"

namespace fulger {

struct RankLinks {
  std::unique_ptr<Link> from_previous;  // stage p-1, same index
  std::unique_ptr<Link> to_next;        // stage p+1, same index
  std::unique_ptr<Link> feedback;       // last stage index t -> stage 0 index t; null when pp is 1
  std::unique_ptr<Link> vocabulary;     // stage 0 index t -> last stage index t, at start-up
  std::vector<std::unique_ptr<Link>>
      features;  // stage 0 index 0: one per vision rank; a vision rank: its own
};

absl::StatusOr<RankLinks> ConnectLinks(const Plan& plan, int rank, Fabric& fabric);

}  // namespace fulger
