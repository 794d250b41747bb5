#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

void Note(const HealthNote& health, int64_t row, float sum) {
  if (health.rows.empty_view() || std::isfinite(sum)) return;
  int32_t& note = *health.rows.mut_row<int32_t>(row);
  if (note == -1) note = health.tag;
}

// Rounding once, from double: the only scalar work of a row.
float InverseRoot(float sum, int64_t n, float eps) {
  return static_cast<float>(
      1.0 / std::sqrt(static_cast<double>(sum) / static_cast<double>(n) + static_cast<double>(eps)));
}

}  // namespace

absl::Status CpuOps::RmsNorm(Stream&, const RmsNormArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t h = args.x.dim(1);
  context_.ForRows(args.x.dim(0), 2 * h, [&](int64_t t) {
    const float* x = args.x.row<float>(t);
    const float sum = context_.k.sum_squares(x, h);
    Note(args.health, t, sum);
    context_.k.scale_by(x, InverseRoot(sum, h, args.eps), args.w.raw(), IsBF16(args.w),
                        args.out.mut_row<float>(t), h);
  });
  return absl::OkStatus();
}

absl::Status CpuOps::AddRmsNorm(Stream&, const AddRmsNormArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t h = args.out.dim(1);
  context_.ForRows(args.out.dim(0), 4 * h, [&](int64_t t) {
    float* out = args.out.mut_row<float>(t);
    context_.k.add_scaled(args.residual.row<float>(t), args.alpha, args.branch.row<float>(t), args.beta, out,
                          h);
    const float sum = context_.k.sum_squares(out, h);
    Note(args.health, t, sum);
    context_.k.scale_by(out, InverseRoot(sum, h, args.eps), args.w.raw(), IsBF16(args.w), out, h);
  });
  return absl::OkStatus();
}

absl::Status CpuOps::AddScaled(Stream&, const AddScaledArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t h = args.out.dim(1);
  context_.ForRows(args.out.dim(0), h, [&](int64_t t) {
    context_.k.add_scaled(args.a.row<float>(t), args.alpha, args.b.row<float>(t), args.beta,
                          args.out.mut_row<float>(t), h);
  });
  return absl::OkStatus();
}

absl::Status CpuOps::LayerNorm(Stream&, const LayerNormArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t h = args.x.dim(1);
  context_.ForRows(args.x.dim(0), 4 * h, [&](int64_t t) {
    const float* x = args.x.row<float>(t);
    const float mean = context_.k.sum(x, h) / static_cast<float>(h);
    const float scale = InverseRoot(context_.k.sum_squares_around(x, mean, h), h, args.eps);
    context_.k.normalize(x, mean, scale, args.w.raw(), IsBF16(args.w), args.b.raw(), IsBF16(args.b),
                         args.out.mut_row<float>(t), h);
  });
  return absl::OkStatus();
}

absl::Status CpuOps::ScaleByRms(Stream&, const ScaleByRmsArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t h = args.x.dim(1);
  context_.ForRows(args.x.dim(0), h, [&](int64_t t) {
    float* x = args.x.mut_row<float>(t);
    const float scale = InverseRoot(*args.sumsq.row<float>(t), args.width, args.eps);
    context_.k.scale_by(x, scale, nullptr, false, x, h);
  });
  return absl::OkStatus();
}

}  // namespace fulger
