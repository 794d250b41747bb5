// Counts what goes through a fabric: bytes always, and the time inside collectives where they are synchronous
// (host memory), so that a rank can say where a step's time went. Changes nothing that passes.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/comm/collective.h"

namespace fulger {

// Since the last time that somebody took them. Executor thread only.
struct Traffic {
  double collective_seconds = 0;  // waiting for slower ranks included
  uint64_t collective_bytes = 0;  // the tensors handed over, whatever the algorithm sends of them
  uint64_t link_bytes = 0;        // sent
};

// `traffic` must outlive the fabric and everything made by it.
std::unique_ptr<Fabric> MakeMeteredFabric(std::unique_ptr<Fabric> inner, Traffic* traffic);

}  // namespace fulger
