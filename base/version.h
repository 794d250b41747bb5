// The program's version (CMakeLists.txt), the same in both binaries: workers and coordinators of different
// versions refuse each other.
#pragma once

#include <string>

namespace fulger {

extern const std::string kVersion;

}  // namespace fulger
