// Linear, Router, Moe: which kernel takes which shape.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

using cuda::Element;
using cuda::ElementOf;
using cuda::ProductLaunch;
using cuda::RowsOf;
using cuda::ToStatus;
using cuda::VectorOf;

// Up to here the experts' weights stream past their few tokens; above, tensor cores work on groups of rows.
constexpr int64_t kMoeStreamTokens = 32;
// Bounds the scratch of one pass; more tokens take several.
constexpr int64_t kMoeTokens = 4096;

bool Aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace

absl::Status CudaOps::ManyRows(const ProductLaunch& a) {
  const bool fits = a.k > 0 && a.k % 8 == 0 && a.ldw % 8 == 0 && Aligned16(a.w.p);
  if (c_.matmul == nullptr || !fits) return ToStatus(cuda::ProductTensor(stream(), a), "Linear");
  // float32 activations as three bfloat16 parts, the products added up in float32 (product_tensor.cu says
  // why).
  ASSIGN_OR_RETURN(uint16_t* const parts, c_.split_scratch.Get<uint16_t>(stream(), 3 * a.rows * a.k));
  RETURN_IF_ERROR(ToStatus(cuda::SplitToBF16(stream(), a.x, a.rows, a.k, parts), "SplitToBF16"));
  bool accumulate = false;
  if (a.bias.p != nullptr) {
    RETURN_IF_ERROR(ToStatus(cuda::FillRows(stream(), a.bias, a.out, a.rows, a.n), "FillRows"));
    accumulate = true;
  }
  for (int part = 2; part >= 0; --part) {  // the small parts first
    RETURN_IF_ERROR(c_.matmul->Multiply(stream(),
                                        {.rows = a.rows,
                                         .n = a.n,
                                         .k = a.k,
                                         .ldw = a.ldw,
                                         .ldo = a.out.ld,
                                         .accumulate = accumulate,
                                         .aligned_out = a.out.ld % 4 == 0 && Aligned16(a.out.p)},
                                        parts + part * a.rows * a.k, a.w.p, a.out.p));
    accumulate = true;
  }
  return absl::OkStatus();
}

absl::Status CudaOps::Linear(Stream&, const LinearArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  if (args.w.dtype() == DType::kI8) {
    return Unimplemented(
        "Linear: int8 weights run on the CPU only: use --projections stored with --device cuda");
  }
  RETURN_IF_ERROR(Enter());
  const ProductLaunch launch{.x = RowsOf(args.x),
                             .w = VectorOf(args.w),
                             .ldw = args.w.stride(0),
                             .bias = VectorOf(args.bias),
                             .out = RowsOf(args.out),
                             .rows = args.x.dim(0),
                             .n = args.w.dim(0),
                             .k = args.x.dim(1)};
  if (launch.rows == 0 || launch.n == 0) return absl::OkStatus();
  if (launch.w.type == Element::kF32) return ToStatus(cuda::ProductF32(stream(), launch), "Linear");
  if (launch.rows <= cuda::kStreamRows) return ToStatus(cuda::ProductStream(stream(), launch), "Linear");
  return ManyRows(launch);
}

absl::Status CudaOps::Router(Stream&, const RouterArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  return ToStatus(cuda::Router(stream(), RowsOf(args.x), VectorOf(args.gate), args.gate.stride(0),
                               args.ids.mut_data<int32_t>(), args.weights.mut_data<float>(), args.x.dim(0),
                               args.x.dim(1), args.gate.dim(0), args.ids.dim(1)),
                  "Router");
}

absl::Status CudaOps::Moe(Stream&, const MoeArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  if (args.w1.dtype() == DType::kI8) {
    return Unimplemented("Moe: int8 experts run on the CPU only: use --experts stored with --device cuda");
  }
  RETURN_IF_ERROR(Enter());
  const int64_t tokens = args.x.dim(0);
  for (int64_t first = 0; first < tokens; first += kMoeTokens) {
    RETURN_IF_ERROR(MoePart(args, first, std::min(kMoeTokens, tokens - first)));
  }
  return absl::OkStatus();
}

absl::Status CudaOps::MoePart(const MoeArgs& args, int64_t first_token, int64_t tokens) {
  const int64_t k = args.ids.dim(1);
  const int64_t h = args.x.dim(1);
  const int64_t experts = args.w1.dim(0);
  const int64_t f = args.w1.dim(1);
  const int64_t pairs = tokens * k;  // at most
  const int64_t max_tiles = pairs / cuda::kGroupTileRows + experts;
  const cuda::Rows x{args.x.data<float>() + first_token * args.x.stride(0), args.x.stride(0)};
  const cuda::MutRows out{args.out.mut_data<float>() + first_token * args.out.stride(0), args.out.stride(0)};

  constexpr int64_t kTileInts = sizeof(cuda::GroupTile) / sizeof(int32_t);
  ASSIGN_OR_RETURN(int32_t* const index,
                   c_.index_scratch.Get<int32_t>(stream(), experts + 2 + 2 * pairs + max_tiles * kTileInts));
  int32_t* const first = index;
  int32_t* const tile_count = first + experts + 1;
  int32_t* const token = tile_count + 1;
  int32_t* const pair_of = token + pairs;
  auto* const tiles = reinterpret_cast<cuda::GroupTile*>(pair_of + pairs);
  RETURN_IF_ERROR(ToStatus(cuda::MoeIndex(stream(), {.ids = args.ids.data<int32_t>() + first_token * k,
                                                     .tokens = tokens,
                                                     .k = k,
                                                     .experts = experts,
                                                     .first_expert = args.first_expert,
                                                     .first = first,
                                                     .token = token,
                                                     .pair_of = pair_of,
                                                     .tiles = tiles,
                                                     .tile_count = tile_count}),
                           "Moe: index"));
  ASSIGN_OR_RETURN(float* const memory, c_.pair_scratch.Get<float>(stream(), pairs * (2 * f + h)));
  float* const down = memory;
  float* const hidden = down + pairs * h;
  float* const up = hidden + pairs * f;

  const Element type = ElementOf(args.w1);
  if (type == Element::kBF16 && ElementOf(args.w2) == Element::kBF16 && tokens <= kMoeStreamTokens) {
    RETURN_IF_ERROR(ToStatus(cuda::MoeStream(stream(), {.x = x,
                                                        .first = first,
                                                        .token = token,
                                                        .w1 = args.w1.raw(),
                                                        .w3 = args.w3.raw(),
                                                        .w2 = args.w2.raw(),
                                                        .hidden = hidden,
                                                        .down = down,
                                                        .tokens = tokens,
                                                        .experts = experts,
                                                        .h = h,
                                                        .f = f}),
                             "Moe: streamed experts"));
  } else {
    const auto product = [&](const cuda::Rows& from, const int32_t* row_of, const TensorView& w, float* to) {
      const ProductLaunch launch{.x = from,
                                 .row_of = row_of,
                                 .w = VectorOf(w),
                                 .ldw = w.dim(2),
                                 .expert_stride = w.dim(1) * w.dim(2),
                                 .out = {to, w.dim(1)},
                                 .rows = pairs,
                                 .n = w.dim(1),
                                 .k = w.dim(2),
                                 .tiles = tiles,
                                 .tile_count = tile_count,
                                 .max_tiles = max_tiles};
      return ToStatus(launch.w.type == Element::kF32 ? cuda::ProductF32(stream(), launch)
                                                     : cuda::ProductTensor(stream(), launch),
                      "Moe: grouped product");
    };
    RETURN_IF_ERROR(product(x, token, args.w1, hidden));
    RETURN_IF_ERROR(product(x, token, args.w3, up));
    RETURN_IF_ERROR(
        ToStatus(cuda::SiluMul(stream(), hidden, up, first + experts, pairs, f), "Moe: activation"));
    RETURN_IF_ERROR(product({hidden, f}, nullptr, args.w2, down));
  }
  return ToStatus(cuda::MoeCombine(stream(), down, pair_of, args.weights.data<float>() + first_token * k, k,
                                   out, tokens, h),
                  "Moe: combine");
}

}  // namespace fulger
