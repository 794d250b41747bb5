// What the op files share: threads, inner kernels, scratch, and how much work is worth handing out.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/tensor/tensor_view.h"

namespace fulger {

struct CpuContext {
  CpuContext(ComputePool& p, const cpu::Kernels& kernels)
      : pool(p), k(kernels), linear_work_base(linear_work.Get<float>(p.threads() * cpu::kLinearWork)) {}

  float* LinearWork(int worker) const { return linear_work_base + worker * cpu::kLinearWork; }

  // Calls fn(row) for rows that are computed each alone; `cost` is about the operations of one row.
  template <typename F>
  void ForRows(int64_t rows, int64_t cost, F&& fn) {
    pool.ParallelFor(rows, RowGrain(rows, cost), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) fn(i);
    });
  }
  int64_t RowGrain(int64_t rows, int64_t cost) const {
    const int64_t enough = std::max<int64_t>(1, kMinimumCost / std::max<int64_t>(cost, 1));
    return std::max(enough, rows / (8 * pool.threads()));
  }
  // The product with all columns of b.w, on all threads.
  void ParallelLinear(const cpu::LinearBlock& b);
  // Columns of a weight with rows of `width` elements that one thread takes at a time.
  int64_t ColumnGrain(int64_t t, int64_t n, int64_t width) const;

  // About 10 us of one core: below this, waking another costs more than it brings.
  static constexpr int64_t kMinimumCost = 32768;

  ComputePool& pool;
  const cpu::Kernels& k;
  Scratch linear_work;
  float* const linear_work_base;
  Scratch worker_scratch;  // per-thread areas of the op that runs
  Scratch shared_scratch;  // what its threads share
  Scratch index_scratch;
};

// Columns [j0, j0 + n) of a block's weight.
cpu::LinearBlock Columns(const cpu::LinearBlock& b, int64_t j0, int64_t n);
cpu::WeightType WeightTypeOf(const TensorView& w);
// x w^T with 2-D views; no bias.
cpu::LinearBlock MakeLinearBlock(const TensorView& x, const TensorView& w);

inline bool IsBF16(const TensorView& v) { return v.dtype() == DType::kBF16; }
// Row i of a 2-D f32 | bf16 view.
inline const void* RawRow(const TensorView& v, int64_t i) {
  return static_cast<const char*>(v.raw()) + i * v.stride(0) * static_cast<int64_t>(ByteSize(v.dtype()));
}

}  // namespace fulger
