// Compiled with -mavx2 -mfma -mbmi2: nothing here may run before Avx2Kernels' check, and nothing but the
// kernels may be included.
#define FULGER_CPU_AVX2
#include "kernels/cpu/kernel_table.h"

namespace fulger::cpu {

const Kernels* Avx2Kernels() {
  static constexpr Kernels kTable = avx2::MakeTable("AVX2+FMA", "fma");
  const bool supported =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  return supported ? &kTable : nullptr;
}

}  // namespace fulger::cpu
