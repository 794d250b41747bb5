// The op suite on every backend of this build. The cases are in suite/.
#include "kernels/suite/op_suite.h"

namespace fulger {
namespace {

INSTANTIATE_TEST_SUITE_P(Cpu, OpSuite,
                         testing::Values(SuiteBackend{"fastest", "cpu", {.threads = 2}},
                                         SuiteBackend{"portable", "cpu", {.threads = 2, .portable = true}},
                                         SuiteBackend{"one_thread", "cpu", {.threads = 1}}),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace fulger
