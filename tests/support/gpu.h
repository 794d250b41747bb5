// Tests that need a GPU: skipped loudly where none answers.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <optional>

#include "kernels/device/device.h"

namespace fulger {

inline constexpr int kSkipped = 77;  // ctest's SKIP_RETURN_CODE

// Empty where a GPU can be used. Else says why not, and what the test program should exit with: "skipped", or
// a failure where FULGER_REQUIRE_GPU is set.
inline std::optional<int> ExitCodeWithoutGpu() {
  const auto device = MakeDevice("cuda");
  if (device.ok()) {
    std::printf("%s\n", (*device)->Describe().c_str());
    return std::nullopt;
  }
  const bool required = std::getenv("FULGER_REQUIRE_GPU") != nullptr;
  std::printf("%s: %s\n", required ? "FAILED" : "SKIPPED, NOTHING WAS TESTED",
              Message(device.status()).c_str());
  // Any other error than "no GPU here" is a failure of ours.
  return required || device.status().code() != absl::StatusCode::kUnavailable ? 1 : kSkipped;
}

}  // namespace fulger
