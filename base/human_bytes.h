// Sizes in messages.
#pragma once

#include <cstdint>
#include <string>

namespace fulger {

// "1.25 GiB", "312.00 KiB", "7 B".
std::string HumanBytes(int64_t bytes);

}  // namespace fulger
