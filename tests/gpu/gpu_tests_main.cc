// fulger-gpu-tests: the tests and the benchmark that a bundle carries, in one program: each would hold the
// kernels again.
//
//   fulger-gpu-tests [GoogleTest's flags]     fulger-gpu-tests bench [fulger-gpu-bench's flags]
//
// deploy/bundle/test_gpu.py chooses what to run. FULGER_REQUIRE_GPU=1: without a GPU it fails at once.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "kernels/bench/gpu_bench.h"
#include "tests/support/gpu.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "bench") return fulger::GpuBenchMain(argc - 1, argv + 1);
  testing::InitGoogleTest(&argc, argv);
  if (std::getenv("FULGER_REQUIRE_GPU") != nullptr) {
    if (const auto code = fulger::ExitCodeWithoutGpu()) return *code;
  }
  return RUN_ALL_TESTS();
}
