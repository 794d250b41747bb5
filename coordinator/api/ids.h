// Names that nobody else gives.
#pragma once

#include <string>
#include <string_view>

namespace fulger {

// `prefix` and 32 random hexadecimal digits. Any thread.
std::string NewId(std::string_view prefix);

}  // namespace fulger
