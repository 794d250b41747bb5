// The plan's identity. Internal to model/: callers read Plan::hash.
#pragma once

#include <string>

#include "model/layout.h"

namespace fulger {

// SHA-256 of a canonical text: every field of the config and of the plan in a fixed order, doubles exactly.
std::string HashOfPlan(const ModelConfig& config, const Plan& plan);

}  // namespace fulger
