// Compiled with the AVX-512 flags of CMakeLists.txt: nothing here may run before Avx512Kernels' check, and
// nothing but the kernels may be included.
#define FULGER_CPU_AVX512
#include "kernels/cpu/kernel_table.h"

namespace fulger::cpu {

const Kernels* Avx512Kernels() {
  static constexpr Kernels kTable = avx512::MakeTable("AVX-512", "fma");
  const bool supported = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                         __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                         __builtin_cpu_supports("bmi2");
  return supported ? &kTable : nullptr;
}

}  // namespace fulger::cpu
