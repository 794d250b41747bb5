// The table of this translation unit's instruction set; included by kernels_portable.cc and kernels_avx2.cc
// only.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/lightning_kernel.h"
#include "kernels/cpu/linear_kernel.h"
#include "kernels/cpu/product_kernel.h"
#include "kernels/cpu/row_kernel.h"

namespace fulger::cpu::FULGER_CPU_ISA {

constexpr Kernels MakeTable(const char* name) {
  return {.name = name,
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
          .widen = &Widen};
}

}  // namespace fulger::cpu::FULGER_CPU_ISA
