// The name under which a server knows its model.
#pragma once

#include <string>

#include "base/status.h"
#include "coordinator/cli/http_client.h"

namespace fulger {

// The first entry of /v1/models.
absl::StatusOr<std::string> FirstModel(const HttpClient& client);

}  // namespace fulger
