// Lightning attention: single tokens by slot, longer runs in chunks.
#include <algorithm>
#include <vector>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

using cuda::LightningChunk;
using cuda::LightningRun;
using cuda::LightningToken;
using cuda::RowsOf;
using cuda::ToStatus;

}  // namespace

absl::Status CudaOps::Lightning(Stream&, const LightningArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  RETURN_IF_ERROR(Enter());
  const int64_t heads = args.slopes.dim(0);
  const int64_t d = args.states.dim(3);
  if (heads == 0 || d == 0) return absl::OkStatus();
  const int64_t chunk_size = std::min<int64_t>(args.block, cuda::kLightningChunk);
  std::vector<LightningToken> tokens;
  std::vector<LightningChunk> chunks;
  std::vector<LightningRun> runs;
  for (const LightningSegment& s : args.segments) {
    if (s.slot < 0 || s.count == 1) {
      for (int64_t i = 0; i < s.count; ++i) tokens.push_back({static_cast<int32_t>(s.row + i), s.slot});
      continue;
    }
    if (s.count == 0) continue;
    const auto first = static_cast<int32_t>(chunks.size());
    for (int64_t i = 0; i < s.count; i += chunk_size) {
      chunks.push_back(
          {static_cast<int32_t>(s.row + i), static_cast<int32_t>(std::min(chunk_size, s.count - i))});
    }
    runs.push_back({first, static_cast<int32_t>(chunks.size()) - first, s.slot});
  }
  if (!tokens.empty()) {
    ASSIGN_OR_RETURN(const LightningToken* const table,
                     c_.lightning_tokens.Put(stream(), c_.staging, std::span<const LightningToken>(tokens)));
    RETURN_IF_ERROR(
        ToStatus(cuda::LightningDecode(stream(), {.qkv = RowsOf(args.qkv),
                                                  .slopes = args.slopes.data<float>(),
                                                  .states = args.states.mut_data<float>(),
                                                  .out = RowsOf(args.out),
                                                  .heads = heads,
                                                  .d = d,
                                                  .tokens = table,
                                                  .token_count = static_cast<int64_t>(tokens.size())}),
                 "Lightning: decode"));
  }
  if (chunks.empty()) return absl::OkStatus();
  cuda::LightningPrefillLaunch launch{.qkv = RowsOf(args.qkv),
                                      .slopes = args.slopes.data<float>(),
                                      .states = args.states.mut_data<float>(),
                                      .out = RowsOf(args.out),
                                      .heads = heads,
                                      .d = d,
                                      .chunk_count = static_cast<int64_t>(chunks.size()),
                                      .run_count = static_cast<int64_t>(runs.size())};
  ASSIGN_OR_RETURN(launch.chunks,
                   c_.lightning_chunks.Put(stream(), c_.staging, std::span<const LightningChunk>(chunks)));
  ASSIGN_OR_RETURN(launch.runs,
                   c_.lightning_runs.Put(stream(), c_.staging, std::span<const LightningRun>(runs)));
  ASSIGN_OR_RETURN(launch.updates,
                   c_.lightning_scratch.Get<float>(stream(), launch.chunk_count * heads * d * d));
  return ToStatus(cuda::LightningPrefill(stream(), launch), "Lightning: prefill");
}

}  // namespace fulger
