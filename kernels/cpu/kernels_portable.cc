#include "kernels/cpu/kernel_table.h"

namespace fulger::cpu {

const Kernels& PortableKernels() {
  static constexpr Kernels kTable = portable::MakeTable("portable", "portable");
  return kTable;
}

#ifndef FULGER_HAVE_AVX2
const Kernels* Avx2Kernels() { return nullptr; }
#endif
#ifndef FULGER_HAVE_AVX512
const Kernels* Avx512Kernels() { return nullptr; }
#endif

}  // namespace fulger::cpu
