// The op suite on every backend of this build. The cases are in suite/.
#include "kernels/suite/op_suite.h"

namespace fulger {
namespace {

// Every table of kernels that this processor runs; one thread for the shortest way through an op.
std::vector<SuiteBackend> Cpu() {
  std::vector<SuiteBackend> backends = {{"one_thread", "cpu", {.threads = 1}}};
  for (const char* kernels : {"avx512", "avx2", "portable"}) {
    const SuiteBackend backend{kernels, "cpu", {.threads = 2, .kernels = kernels}};
    const auto device = MakeDevice(backend.spec, backend.options);
    if (device.ok()) {
      backends.push_back(backend);
    } else {
      std::printf("NOT TESTED: %s\n", Message(device.status()).c_str());
    }
  }
  return backends;
}

INSTANTIATE_TEST_SUITE_P(Cpu, OpSuite, testing::ValuesIn(Cpu()),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace fulger
