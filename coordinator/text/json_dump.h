// JSON text rewritten the way Python's json.dumps(ensure_ascii=False) writes it, which is what the chat
// templates' tojson filter yields: ", " and ": " between, keys in their order, characters unescaped, Python's
// numbers.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace fulger {

// INVALID_ARGUMENT where `json` is not one JSON value, or an object has a key twice.
absl::StatusOr<std::string> DumpLikePython(std::string_view json);

// The same for an element of a request's `tools`: of {"type": "function", "function": {...}} the inner
// object, of anything else the whole.
absl::StatusOr<std::string> DumpTool(std::string_view json);

}  // namespace fulger
