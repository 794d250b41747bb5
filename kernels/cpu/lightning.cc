#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

// exp(-s n) for n = 0 .. count, each from its own product in double: exp(+s j) factors would overflow.
void FillDecay(float slope, int64_t count, float* decay) {
  for (int64_t n = 0; n <= count; ++n) {
    decay[n] = static_cast<float>(std::exp(-static_cast<double>(slope) * static_cast<double>(n)));
  }
}

void ZeroRows(const MutTensorView& out, int64_t row, int64_t count) {
  for (int64_t t = row; t < row + count; ++t) std::fill_n(out.mut_row<float>(t), out.dim(1), 0.0F);
}

}  // namespace

absl::Status CpuOps::Lightning(Stream&, const LightningArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t heads = args.slopes.dim(0);
  const int64_t d = args.states.dim(3);
  int64_t longest = 0;
  int64_t rows = 0;
  for (const LightningSegment& s : args.segments) {
    longest = std::max(longest, s.count);
    rows += s.count;
    if (s.slot < 0) ZeroRows(args.out, s.row, s.count);
  }
  if (rows == 0 || heads == 0 || d == 0) return absl::OkStatus();

  const int64_t block = std::min(args.block, longest);
  const int64_t stride = block + 1;
  float* decay = context_.shared_scratch.Get<float>(heads * stride);
  context_.ForRows(heads, 40 * stride,
                   [&](int64_t h) { FillDecay(args.slopes.data<float>()[h], block, decay + h * stride); });

  const int64_t work_size = cpu::LightningWork(block, d);
  float* work = context_.worker_scratch.Get<float>(context_.pool.threads() * work_size);
  const auto segments = static_cast<int64_t>(args.segments.size());
  const int64_t tasks = segments * heads;
  const int64_t cost = 4 * d * d * rows / segments;  // of one task, on average
  const int64_t grain = std::max<int64_t>(1, CpuContext::kMinimumCost / std::max<int64_t>(cost, 1));
  context_.pool.ParallelFor(tasks, grain, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) {
      const LightningSegment& s = args.segments[static_cast<size_t>(i / heads)];
      const int64_t h = i % heads;
      if (s.slot < 0) continue;
      for (int64_t done = 0; done < s.count; done += block) {
        const int64_t row = s.row + done;
        context_.k.lightning({.qkv = args.qkv.row<float>(row) + h * 3 * d,
                              .ld_qkv = args.qkv.stride(0),
                              .m = std::min(block, s.count - done),
                              .d = d,
                              .decay = decay + h * stride,
                              .state = args.states.mut_data<float>() + (s.slot * heads + h) * d * d,
                              .out = args.out.mut_row<float>(row) + h * d,
                              .ldo = args.out.stride(0),
                              .work = work + worker * work_size});
      }
    }
  });
  return absl::OkStatus();
}

absl::Status CpuOps::LightningGate(Stream&, const LightningGateArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t width = args.o.dim(1);
  context_.ForRows(args.o.dim(0), 12 * width, [&](int64_t t) {
    *args.sumsq.mut_row<float>(t) =
        context_.k.gate(args.o.row<float>(t), args.gate.row<float>(t), args.w.raw(), IsBF16(args.w),
                        args.out.mut_row<float>(t), width);
  });
  return absl::OkStatus();
}

}  // namespace fulger
