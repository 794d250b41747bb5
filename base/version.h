// The program's version, the same in both binaries: workers and coordinators of different versions refuse
// each other.
#pragma once

namespace fulger {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace fulger
