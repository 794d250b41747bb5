// The table of this translation unit's instruction set; included by kernels_portable.cc and kernels_avx2.cc
// only.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/lightning_kernel.h"
#include "kernels/cpu/linear_kernel.h"
#include "kernels/cpu/product_kernel.h"
#include "kernels/cpu/row_kernel.h"

namespace fulger::cpu::FULGER_CPU_ISA {

constexpr Kernels MakeTable(const char* name, const char* arithmetic) {
  return {.name = name,
          .arithmetic = arithmetic,
          .linear_direct = kLinearDirect,
          .linear = &Linear,
          .product = &Product,
          .lightning = &Lightning,
          .sum_squares = &SumSquares,
          .sum = &Sum,
          .sum_squares_around = &SumSquaresAround,
          .scale_by = &ScaleBy,
          .normalize = &Normalize,
          .add_scaled = &AddScaledRow,
          .gate = &GateRow,
          .silu_mul = &SiluMul,
          .gelu = &GeluRow,
          .softmax = &SoftmaxRow,
          .fused_multiply_adds = &FusedMultiplyAdds,
          .widen = &Widen};
}

}  // namespace fulger::cpu::FULGER_CPU_ISA
