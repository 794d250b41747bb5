// Rotary embedding with the cache write, paged attention, the ViT's attention. The plan (which tile takes
// which positions) is made here, on the host.
#include <algorithm>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

using cuda::AttentionLaunch;
using cuda::AttentionMerge;
using cuda::AttentionTile;
using cuda::ElementOf;
using cuda::kAttentionSplit;
using cuda::kAttentionVectors;
using cuda::RowsOf;
using cuda::ToStatus;

// With fewer blocks than this the GPU idles: long contexts are then cut over blocks.
constexpr int64_t kEnoughBlocks = 512;

absl::Status CheckHead(const char* op, int64_t d) {
  if (d <= cuda::kAttentionMaxDim) return absl::OkStatus();
  return InvalidArgument("{}: the CUDA kernel takes heads of at most {} dims, got {}", op,
                         cuda::kAttentionMaxDim, d);
}

struct PagedPlan {
  std::vector<AttentionTile> tiles;
  std::vector<AttentionMerge> merges;
  std::vector<int32_t> blocks;
  int32_t parts = 0;
};

int64_t SplitsOf(const AttentionSegment& s, int64_t last_row) {
  return (s.position + last_row + kAttentionSplit) / kAttentionSplit;  // of last_row + 1 positions
}

PagedPlan PlanPaged(const PagedAttentionArgs& args, int64_t group, int64_t kv_heads) {
  const int64_t q_row = args.q.stride(0);
  const int64_t out_row = args.out.stride(0);
  int64_t tiles = 0;
  for (const AttentionSegment& s : args.segments) {
    if (!s.blocks.empty()) tiles += (s.count * group + kAttentionVectors - 1) / kAttentionVectors;
  }
  const bool cut = tiles * kv_heads < kEnoughBlocks;
  PagedPlan plan;
  for (const AttentionSegment& s : args.segments) {
    if (s.blocks.empty()) continue;
    AttentionTile tile{.q = s.row * q_row,
                       .out = s.row * out_row,
                       .table = static_cast<int32_t>(plan.blocks.size()),
                       .position = static_cast<int32_t>(s.position)};
    plan.blocks.insert(plan.blocks.end(), s.blocks.begin(), s.blocks.end());
    for (int64_t first = 0; first < s.count * group; first += kAttentionVectors) {
      tile.first = static_cast<int32_t>(first);
      tile.vectors = static_cast<int32_t>(std::min<int64_t>(kAttentionVectors, s.count * group - first));
      const auto splits = static_cast<int32_t>(SplitsOf(s, (first + tile.vectors - 1) / group));
      if (!cut || splits == 1) {
        tile.split = 0;
        tile.splits = splits;
        tile.part = -1;
        plan.tiles.push_back(tile);
        continue;
      }
      plan.merges.push_back(
          {.tile = static_cast<int32_t>(plan.tiles.size()), .part = plan.parts, .parts = splits});
      for (int32_t i = 0; i < splits; ++i) {
        tile.split = i;
        tile.splits = 1;
        tile.part = plan.parts++;
        plan.tiles.push_back(tile);
      }
    }
  }
  return plan;
}

}  // namespace

absl::Status CudaOps::RopeAndCache(Stream&, const RopeAndCacheArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  const int64_t block_size = args.k_cache.dim(2);
  std::vector<cuda::RopeRow> rows;
  for (const AttentionSegment& s : args.segments) {
    for (int64_t i = 0; i < s.count && !s.blocks.empty(); ++i) {
      const int64_t position = s.position + i;
      rows.push_back({static_cast<int32_t>(s.row + i), static_cast<int32_t>(position),
                      s.blocks[static_cast<size_t>(position / block_size)]});
    }
  }
  if (rows.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const cuda::RopeRow* const work,
                   c_.rope_rows.Put(stream(), c_.staging, std::span<const cuda::RopeRow>(rows)));
  ASSIGN_OR_RETURN(const float* const inv_freq, c_.frequencies.Put(stream(), c_.staging, args.inv_freq));
  return ToStatus(cuda::RopeAndCache(stream(), {.work = work,
                                                .count = static_cast<int64_t>(rows.size()),
                                                .inv_freq = inv_freq,
                                                .pairs = static_cast<int64_t>(args.inv_freq.size()),
                                                .q = RowsOf(args.q),
                                                .k = RowsOf(args.k),
                                                .v = RowsOf(args.v),
                                                .k_cache = args.k_cache.mut_raw(),
                                                .v_cache = args.v_cache.mut_raw(),
                                                .cache_type = ElementOf(args.k_cache),
                                                .heads = args.q.dim(1),
                                                .kv_heads = args.k.dim(1),
                                                .d = args.q.dim(2),
                                                .block_size = block_size}),
                  "RopeAndCache");
}

absl::Status CudaOps::PagedAttention(Stream&, const PagedAttentionArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t d = args.q.dim(2);
  RETURN_IF_ERROR(CheckHead("PagedAttention", d));
  RETURN_IF_ERROR(Enter());
  const int64_t kv_heads = args.k_cache.dim(1);
  const int64_t group = args.q.dim(1) / kv_heads;
  if (group == 0 || d == 0) return absl::OkStatus();
  for (const AttentionSegment& s : args.segments) {
    if (!s.blocks.empty()) continue;
    const cuda::MutRows rows{args.out.mut_row<float>(s.row), args.out.stride(0)};
    RETURN_IF_ERROR(ToStatus(cuda::FillRows(stream(), {}, rows, s.count, args.out.dim(1)),
                             "PagedAttention: padding rows"));
  }
  const PagedPlan plan = PlanPaged(args, group, kv_heads);
  if (plan.tiles.empty()) return absl::OkStatus();
  AttentionLaunch launch{.tile_count = static_cast<int64_t>(plan.tiles.size()),
                         .merge_count = static_cast<int64_t>(plan.merges.size()),
                         .q = args.q.data<float>(),
                         .q_row = args.q.stride(0),
                         .q_head = d,
                         .k = args.k_cache.raw(),
                         .v = args.v_cache.raw(),
                         .kv_type = ElementOf(args.k_cache),
                         .block_size = args.k_cache.dim(2),
                         .out = args.out.mut_data<float>(),
                         .out_row = args.out.stride(0),
                         .kv_heads = kv_heads,
                         .group = group,
                         .d = d,
                         .scale = args.scale};
  ASSIGN_OR_RETURN(launch.tiles,
                   c_.attention_tiles.Put(stream(), c_.staging, std::span<const AttentionTile>(plan.tiles)));
  ASSIGN_OR_RETURN(launch.blocks,
                   c_.attention_blocks.Put(stream(), c_.staging, std::span<const int32_t>(plan.blocks)));
  if (!plan.merges.empty()) {
    ASSIGN_OR_RETURN(launch.merges, c_.attention_merges.Put(stream(), c_.staging,
                                                            std::span<const AttentionMerge>(plan.merges)));
    ASSIGN_OR_RETURN(launch.partials, c_.attention_scratch.Get<float>(
                                          stream(), plan.parts * kv_heads * kAttentionVectors * (d + 2)));
  }
  return ToStatus(cuda::Attention(stream(), launch), "PagedAttention");
}

absl::Status CudaOps::FullAttention(Stream&, const FullAttentionArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t tiles = args.q.dim(0);
  const int64_t s = args.q.dim(1);
  const int64_t heads = args.q.dim(2);
  const int64_t d = args.q.dim(3);
  RETURN_IF_ERROR(CheckHead("FullAttention", d));
  RETURN_IF_ERROR(Enter());
  if (tiles == 0 || s == 0 || heads == 0 || d == 0) return absl::OkStatus();
  std::vector<AttentionTile> work;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    for (int64_t first = 0; first < s; first += kAttentionVectors) {
      work.push_back({.q = tile * args.q.stride(0),
                      .out = tile * s * heads * d,
                      .k = tile * args.k.stride(0),
                      .v = tile * args.v.stride(0),
                      .first = static_cast<int32_t>(first),
                      .vectors = static_cast<int32_t>(std::min<int64_t>(kAttentionVectors, s - first)),
                      .splits = static_cast<int32_t>((s + kAttentionSplit - 1) / kAttentionSplit)});
    }
  }
  AttentionLaunch launch{.tile_count = static_cast<int64_t>(work.size()),
                         .q = args.q.data<float>(),
                         .q_row = args.q.stride(1),
                         .q_head = args.q.stride(2),
                         .k = args.k.raw(),
                         .v = args.v.raw(),
                         .k_row = args.k.stride(1),
                         .k_head = args.k.stride(2),
                         .v_row = args.v.stride(1),
                         .v_head = args.v.stride(2),
                         .keys = s,
                         .out = args.out.mut_data<float>(),
                         .out_row = heads * d,
                         .kv_heads = heads,
                         .group = 1,
                         .d = d,
                         .scale = args.scale};
  ASSIGN_OR_RETURN(launch.tiles,
                   c_.attention_tiles.Put(stream(), c_.staging, std::span<const AttentionTile>(work)));
  return ToStatus(cuda::Attention(stream(), launch), "FullAttention");
}

}  // namespace fulger
