#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {

absl::Status CpuOps::FullAttention(Stream&, const FullAttentionArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  constexpr int64_t kRows = 48;
  const int64_t s = args.q.dim(1);
  const int64_t heads = args.q.dim(2);
  const int64_t d = args.q.dim(3);
  if (d == 0) return absl::OkStatus();
  const int64_t row_parts = (s + kRows - 1) / kRows;
  const int64_t work_size = kRows * (d + s);
  float* work = context_.worker_scratch.Get<float>(context_.pool.threads() * work_size);
  const int64_t cost = 2 * std::min(kRows, s) * s * d;
  const int64_t grain = std::max<int64_t>(1, CpuContext::kMinimumCost / std::max<int64_t>(cost, 1));

  auto at = [](const TensorView& v, int64_t tile, int64_t row, int64_t head) {
    return v.data<float>() + tile * v.stride(0) + row * v.stride(1) + head * v.stride(2);
  };
  context_.pool.ParallelFor(
      args.q.dim(0) * heads * row_parts, grain, [&](int64_t begin, int64_t end, int worker) {
        float* q = work + worker * work_size;
        float* scores = q + kRows * d;
        for (int64_t i = begin; i < end; ++i) {
          const int64_t tile = i / (heads * row_parts);
          const int64_t head = i / row_parts % heads;
          const int64_t r0 = i % row_parts * kRows;
          const int64_t rows = std::min(kRows, s - r0);
          for (int64_t r = 0; r < rows; ++r) {
            context_.k.scale_by(at(args.q, tile, r0 + r, head), args.scale, nullptr, false, q + r * d, d);
          }
          context_.k.linear({.x = q,
                             .ldx = d,
                             .w = at(args.k, tile, 0, head),
                             .ldw = args.k.stride(1),
                             .out = scores,
                             .ldo = s,
                             .t = rows,
                             .n = s,
                             .k = d,
                             .work = context_.LinearWork(worker)});
          float* out = args.out.mut_data<float>() + ((tile * s + r0) * heads + head) * d;
          float max = 0;
          for (int64_t r = 0; r < rows; ++r) {
            const float sum = context_.k.softmax(scores + r * s, s, s, &max);
            context_.k.scale_by(scores + r * s, 1.0F / sum, nullptr, false, scores + r * s, s);
          }
          context_.k.product({.a = scores,
                              .a_row = s,
                              .b = at(args.v, tile, 0, head),
                              .ldb = args.v.stride(1),
                              .c = out,
                              .ldc = heads * d,
                              .m = rows,
                              .n = d,
                              .k = s});
        }
      });
  return absl::OkStatus();
}

}  // namespace fulger
