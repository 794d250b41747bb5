// Bearer keys, for both edges.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

// UNAUTHENTICATED unless `authorization` ("Bearer KEY") holds one of `keys`; no keys: all may enter. Takes as
// long for a wrong key as for a right one.
absl::Status CheckApiKey(const std::vector<std::string>& keys, std::string_view authorization);

}  // namespace fulger
