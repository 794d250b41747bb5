#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

absl::Status CheckIndices(const char* op, const TensorView& index, int64_t lowest, int64_t rows) {
  const int32_t* p = index.data<int32_t>();
  for (int64_t i = 0; i < index.dim(0); ++i) {
    if (p[i] < lowest || p[i] >= rows) {
      return InvalidArgument("{}: index[{}] = {} is outside [{}, {})", op, i, p[i], lowest, rows);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CpuOps::Embedding(Stream&, const EmbeddingArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t h = args.out.dim(1);
  context_.ForRows(args.out.dim(0), h, [&](int64_t t) {
    const int64_t row = args.ids.data<int32_t>()[t] - args.first_row;
    float* out = args.out.mut_row<float>(t);
    if (row < 0 || row >= args.table.dim(0)) {
      std::fill_n(out, h, 0.0F);
    } else {
      context_.k.widen(RawRow(args.table, row), IsBF16(args.table), out, h);
    }
  });
  return absl::OkStatus();
}

absl::Status CpuOps::GatherRows(Stream&, const GatherRowsArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(CheckIndices("GatherRows", args.index, -1, args.src.dim(0)));
  const int64_t h = args.out.dim(1);
  context_.ForRows(args.out.dim(0), h, [&](int64_t i) {
    const int64_t row = args.index.data<int32_t>()[i];
    float* out = args.out.mut_row<float>(i);
    if (row >= 0) {
      std::copy_n(args.src.row<float>(row), h, out);
    } else if (args.fill.empty_view()) {
      std::fill_n(out, h, 0.0F);
    } else {
      context_.k.widen(args.fill.raw(), IsBF16(args.fill), out, h);
    }
  });
  return absl::OkStatus();
}

absl::Status CpuOps::ScatterRows(Stream&, const ScatterRowsArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(CheckIndices("ScatterRows", args.index, 0, args.out.dim(0)));
  const int64_t h = args.out.dim(1);
  context_.ForRows(args.src.dim(0), h, [&](int64_t i) {
    std::copy_n(args.src.row<float>(i), h, args.out.mut_row<float>(args.index.data<int32_t>()[i]));
  });
  return absl::OkStatus();
}

absl::Status CpuOps::Gelu(Stream&, const GeluArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t h = args.x.dim(1);
  context_.ForRows(args.x.dim(0), 16 * h, [&](int64_t t) { context_.k.gelu(args.x.mut_row<float>(t), h); });
  return absl::OkStatus();
}

}  // namespace fulger
