// main of test programs that need a GPU: without one they say why and are skipped (tests/support/gpu.h).
#include <gtest/gtest.h>

#include "tests/support/gpu.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const auto code = fulger::ExitCodeWithoutGpu()) return *code;
  return RUN_ALL_TESTS();
}
