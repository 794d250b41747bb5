#include "coordinator/api/ids.h"

#include <fmt/format.h>

#include <cstdint>
#include <random>

namespace fulger {

std::string NewId(std::string_view prefix) {
  thread_local std::mt19937_64 random{std::random_device{}() ^
                                      (static_cast<uint64_t>(std::random_device{}()) << 32)};
  return fmt::format("{}{:016x}{:016x}", prefix, random(), random());
}

}  // namespace fulger
