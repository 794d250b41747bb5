#include "kernels/cpu/kernel_table.h"

namespace fulger::cpu {

const Kernels& PortableKernels() {
  static constexpr Kernels kTable = portable::MakeTable("portable");
  return kTable;
}

#ifndef FULGER_HAVE_AVX2
const Kernels* Avx2Kernels() { return nullptr; }
#endif

}  // namespace fulger::cpu
