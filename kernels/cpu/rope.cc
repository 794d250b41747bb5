#include <cmath>
#include <cstring>

#include "base/bfloat16.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

struct RowPlace {
  int64_t row;
  int64_t position;
  int64_t block;
};

// Pairs (i, i + n) of the first 2n elements.
void Rotate(float* x, const float* cosine, const float* sine, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const float a = x[i];
    const float b = x[i + n];
    x[i] = a * cosine[i] - b * sine[i];
    x[i + n] = b * cosine[i] + a * sine[i];
  }
}

void StoreRow(const float* from, int64_t n, const MutTensorView& cache, int64_t offset) {
  if (cache.dtype() == DType::kF32) {
    std::memcpy(cache.mut_data<float>() + offset, from, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  uint16_t* to = cache.mut_data<uint16_t>() + offset;
  for (int64_t i = 0; i < n; ++i) to[i] = FloatToBF16(from[i]);
}

}  // namespace

absl::Status CpuOps::RopeAndCache(Stream&, const RopeAndCacheArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t heads = args.q.dim(1);
  const int64_t kv_heads = args.k.dim(1);
  const int64_t d = args.q.dim(2);
  const int64_t block_size = args.k_cache.dim(2);
  const auto pairs = static_cast<int64_t>(args.inv_freq.size());

  int64_t count = 0;
  for (const AttentionSegment& s : args.segments) count += s.blocks.empty() ? 0 : s.count;
  auto* places = context_.index_scratch.Get<RowPlace>(count);
  int64_t n = 0;
  for (const AttentionSegment& s : args.segments) {
    for (int64_t i = 0; i < s.count && !s.blocks.empty(); ++i) {
      const int64_t position = s.position + i;
      places[n++] = {s.row + i, position, s.blocks[static_cast<size_t>(position / block_size)]};
    }
  }
  const int64_t work_size = 2 * pairs + d;
  float* work = context_.worker_scratch.Get<float>(context_.pool.threads() * work_size);
  const int64_t cost = 60 * pairs + 4 * (heads + kv_heads) * d;
  context_.pool.ParallelFor(
      count, context_.RowGrain(count, cost), [&](int64_t begin, int64_t end, int worker) {
        float* cosine = work + worker * work_size;
        float* sine = cosine + pairs;
        float* row = sine + pairs;
        for (int64_t r = begin; r < end; ++r) {
          const RowPlace& place = places[r];
          for (int64_t i = 0; i < pairs; ++i) {
            // The angle is a float32 product, as the model was trained; its sine is exact to float32.
            const float angle = static_cast<float>(place.position) * args.inv_freq[static_cast<size_t>(i)];
            cosine[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
            sine[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
          }
          float* q = args.q.mut_row<float>(place.row);
          for (int64_t h = 0; h < heads; ++h) Rotate(q + h * d, cosine, sine, pairs);
          for (int64_t h = 0; h < kv_heads; ++h) {
            const int64_t offset =
                ((place.block * kv_heads + h) * block_size + place.position % block_size) * d;
            std::memcpy(row, args.k.row<float>(place.row) + h * d, static_cast<size_t>(d) * sizeof(float));
            Rotate(row, cosine, sine, pairs);
            StoreRow(row, d, args.k_cache, offset);
            StoreRow(args.v.row<float>(place.row) + h * d, d, args.v_cache, offset);
          }
        }
      });
  return absl::OkStatus();
}

}  // namespace fulger
