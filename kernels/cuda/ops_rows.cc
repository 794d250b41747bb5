// Norms, moving rows, small elementwise work, the ViT's entry.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

using cuda::RowsOf;
using cuda::ToStatus;
using cuda::VectorOf;

int32_t* HealthOf(const HealthNote& note) {
  return note.rows.empty_view() ? nullptr : note.rows.mut_data<int32_t>();
}

}  // namespace

absl::Status CudaOps::RmsNorm(Stream&, const RmsNormArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(cuda::RmsNorm(stream(), {.x = RowsOf(args.x),
                                           .w = VectorOf(args.w),
                                           .eps = args.eps,
                                           .out = RowsOf(args.out),
                                           .health = HealthOf(args.health),
                                           .tag = args.health.tag,
                                           .rows = args.x.dim(0),
                                           .width = args.x.dim(1)}),
                  "RmsNorm");
}

absl::Status CudaOps::AddRmsNorm(Stream&, const AddRmsNormArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(cuda::AddRmsNorm(stream(), {.x = RowsOf(args.residual),
                                              .branch = RowsOf(args.branch),
                                              .alpha = args.alpha,
                                              .beta = args.beta,
                                              .w = VectorOf(args.w),
                                              .eps = args.eps,
                                              .out = RowsOf(args.out),
                                              .health = HealthOf(args.health),
                                              .tag = args.health.tag,
                                              .rows = args.out.dim(0),
                                              .width = args.out.dim(1)}),
                  "AddRmsNorm");
}

absl::Status CudaOps::AddScaled(Stream&, const AddScaledArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(cuda::AddScaled(stream(), RowsOf(args.a), args.alpha, RowsOf(args.b), args.beta,
                                  RowsOf(args.out), args.out.dim(0), args.out.dim(1)),
                  "AddScaled");
}

absl::Status CudaOps::LayerNorm(Stream&, const LayerNormArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(cuda::LayerNorm(stream(), {.x = RowsOf(args.x),
                                             .w = VectorOf(args.w),
                                             .b = VectorOf(args.b),
                                             .eps = args.eps,
                                             .out = RowsOf(args.out),
                                             .rows = args.x.dim(0),
                                             .width = args.x.dim(1)}),
                  "LayerNorm");
}

absl::Status CudaOps::LightningGate(Stream&, const LightningGateArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(
      cuda::LightningGate(stream(), RowsOf(args.o), RowsOf(args.gate), VectorOf(args.w), RowsOf(args.out),
                          args.sumsq.mut_data<float>(), args.sumsq.stride(0), args.o.dim(0), args.o.dim(1)),
      "LightningGate");
}

absl::Status CudaOps::ScaleByRms(Stream&, const ScaleByRmsArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(cuda::ScaleByRms(stream(), RowsOf(args.x), args.sumsq.data<float>(), args.sumsq.stride(0),
                                   args.width, args.eps, args.x.dim(0), args.x.dim(1)),
                  "ScaleByRms");
}

absl::Status CudaOps::Embedding(Stream&, const EmbeddingArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(
      cuda::Embedding(stream(), args.ids.data<int32_t>(), VectorOf(args.table), args.table.stride(0),
                      args.first_row, args.table.dim(0), RowsOf(args.out), args.out.dim(0), args.out.dim(1)),
      "Embedding");
}

absl::Status CudaOps::GatherRows(Stream&, const GatherRowsArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  c_.may_fault = true;
  return ToStatus(cuda::GatherRows(stream(), RowsOf(args.src), args.src.dim(0), args.index.data<int32_t>(),
                                   VectorOf(args.fill), RowsOf(args.out), args.out.dim(0), args.out.dim(1),
                                   c_.fault_memory()),
                  "GatherRows");
}

absl::Status CudaOps::ScatterRows(Stream&, const ScatterRowsArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  c_.may_fault = true;
  return ToStatus(cuda::ScatterRows(stream(), RowsOf(args.src), args.index.data<int32_t>(), RowsOf(args.out),
                                    args.out.dim(0), args.src.dim(0), args.src.dim(1), c_.fault_memory()),
                  "ScatterRows");
}

absl::Status CudaOps::Gelu(Stream&, const GeluArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(cuda::Gelu(stream(), RowsOf(args.x), args.x.dim(0), args.x.dim(1)), "Gelu");
}

absl::Status CudaOps::Patchify(Stream&, const PatchifyArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  cuda::PatchifyLaunch launch{.tiles = args.tiles.data<uint8_t>(),
                              .tile_count = args.tiles.dim(0),
                              .side = args.tiles.dim(1),
                              .patch = args.patch,
                              .out = RowsOf(args.out)};
  std::copy(args.mean.begin(), args.mean.end(), launch.mean);
  std::copy(args.std.begin(), args.std.end(), launch.std);
  return ToStatus(cuda::Patchify(stream(), launch), "Patchify");
}

absl::Status CudaOps::VitEmbed(Stream&, const VitEmbedArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(
      cuda::VitEmbed(stream(), RowsOf(args.patches), VectorOf(args.cls), VectorOf(args.position),
                     args.out.mut_data<float>(), args.out.dim(0), args.out.dim(1), args.out.dim(2)),
      "VitEmbed");
}

}  // namespace fulger
