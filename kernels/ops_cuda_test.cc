// The op suite on a GPU: with cuBLASLt and with our own products alone. Where no GPU answers the whole
// program says why and is skipped; FULGER_REQUIRE_GPU=1 makes that a failure (make test-gpu sets it).
#include "kernels/suite/op_suite.h"

namespace fulger {
namespace {

INSTANTIATE_TEST_SUITE_P(Cuda, OpSuite,
                         testing::Values(SuiteBackend{.name = "cublaslt",
                                                      .spec = "cuda",
                                                      .options = {},
                                                      .bits = RowBits::kFloat32Weights},
                                         SuiteBackend{.name = "own_products",
                                                      .spec = "cuda",
                                                      .options = {.own_products = true},
                                                      .bits = RowBits::kFloat32Weights}),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace fulger
