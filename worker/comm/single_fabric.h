// One rank alone: collectives are the identity. Also the groups of one rank of every other fabric.
#pragma once

#include <memory>
#include <string>

#include "worker/comm/collective.h"
#include "worker/comm/failure.h"

namespace fulger {

std::unique_ptr<Collective> MakeSingleCollective(std::string name, std::shared_ptr<const Failure> failure);

}  // namespace fulger
