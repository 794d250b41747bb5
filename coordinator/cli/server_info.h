// /v1/server_info: what runs, where, with what. No silent fallbacks: everything that was chosen is here.
#pragma once

#include <string>

#include "coordinator/cli/deployment.h"

namespace fulger {

// A JSON object. Any thread, at any time of the deployment's life.
std::string ServerInfoJson(Deployment& deployment, const std::string& model_name);

}  // namespace fulger
