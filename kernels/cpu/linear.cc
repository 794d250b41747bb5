#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {

cpu::WeightType WeightTypeOf(const TensorView& w) {
  if (w.dtype() == DType::kI8) return cpu::WeightType::kI8;
  return IsBF16(w) ? cpu::WeightType::kBF16 : cpu::WeightType::kF32;
}

cpu::LinearBlock MakeLinearBlock(const TensorView& x, const TensorView& w) {
  return {.x = x.data<float>(),
          .ldx = x.stride(0),
          .w = w.raw(),
          .ldw = w.stride(0),
          .w_type = WeightTypeOf(w),
          .t = x.dim(0),
          .n = w.dim(0),
          .k = x.dim(1)};
}

cpu::LinearBlock Columns(const cpu::LinearBlock& b, int64_t j0, int64_t n) {
  const int64_t size = b.w_type == cpu::WeightType::kI8 ? 1 : b.w_type == cpu::WeightType::kBF16 ? 2 : 4;
  cpu::LinearBlock part = b;
  part.w = static_cast<const char*>(b.w) + j0 * b.ldw * size;
  if (b.w_scale != nullptr) part.w_scale = b.w_scale + j0;
  if (b.bias != nullptr) part.bias = static_cast<const char*>(b.bias) + j0 * (b.bias_bf16 ? 2 : 4);
  part.out = b.out + j0;
  part.n = n;
  return part;
}

int64_t CpuContext::ColumnGrain(int64_t t, int64_t n, int64_t width) const {
  // Four pieces a thread even out their speeds.
  const int64_t fair = n / (4 * pool.threads());
  if (t > k.linear_direct) return std::max(cpu::kLinearTileN, fair / cpu::kLinearPanel * cpu::kLinearPanel);
  // Streaming: about a megabyte, four streams long enough to run at full bandwidth.
  constexpr int64_t kStep = 8;
  const int64_t cost = std::max<int64_t>(1, t * width);
  const int64_t enough = std::max(kStep, (kMinimumCost / cost + kStep - 1) / kStep * kStep);
  const int64_t most = std::max(kStep, (int64_t{1} << 19) / std::max<int64_t>(width, 1) / kStep * kStep);
  return std::max(enough, std::min(fair / kStep * kStep, most));
}

void CpuContext::ParallelLinear(const cpu::LinearBlock& b) {
  // Many rows and few columns: cut the rows as well.
  const int64_t grain = ColumnGrain(b.t, b.n, b.k);
  const int64_t column_parts = (b.n + grain - 1) / grain;
  int64_t row_step = b.t;
  if (b.t > cpu::kLinearTileT && column_parts < 4 * pool.threads()) row_step = 2 * cpu::kLinearTileT;
  const int64_t row_parts = b.t == 0 ? 0 : (b.t + row_step - 1) / row_step;
  const bool worth = b.t * b.n * b.k >= kMinimumCost;
  const int64_t parts = row_parts * column_parts;
  pool.ParallelFor(parts, worth ? 1 : parts, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t j0 = i / row_parts * grain;
      const int64_t i0 = i % row_parts * row_step;
      cpu::LinearBlock part = Columns(b, j0, std::min(grain, b.n - j0));
      part.x += i0 * b.ldx;
      part.out += i0 * b.ldo;
      part.t = std::min(row_step, b.t - i0);
      part.work = LinearWork(worker);
      k.linear(part);
    }
  });
}

absl::Status CpuOps::Linear(Stream&, const LinearArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  cpu::LinearBlock b = MakeLinearBlock(args.x, args.w);
  if (!args.w_scale.empty_view()) b.w_scale = args.w_scale.data<float>();
  if (!args.bias.empty_view()) {
    b.bias = args.bias.raw();
    b.bias_bf16 = IsBF16(args.bias);
  }
  b.out = args.out.mut_data<float>();
  b.ldo = args.out.stride(0);
  context_.ParallelLinear(b);
  return absl::OkStatus();
}

}  // namespace fulger
