// Whether two requests are the same one: all that decides the answer, and who asks.
#pragma once

#include <span>
#include <string>

#include "coordinator/engine/types.h"
#include "coordinator/frontend/frontend.h"

namespace fulger {

// SHA-256, hexadecimal, of the client, the prompt and its pictures, what sampling was asked for, and the form
// of the answer. Left out: ids, times, priority, limits of this server, and the seed of a request that named
// none.
std::string RequestIdentity(const GenerateInput& input, std::span<const int32_t> prompt,
                            std::span<const ImageSpan> images);

}  // namespace fulger
