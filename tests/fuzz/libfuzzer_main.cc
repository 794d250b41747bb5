// The entry that libFuzzer calls, for the target that FULGER_FUZZ_TARGET names.
#include <cstddef>
#include <cstdint>

#include "base/log.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  fulger::InitLogging("fuzz", fulger::LogLevel::kError);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fulger::FULGER_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
