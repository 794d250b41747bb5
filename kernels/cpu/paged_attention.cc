#include <cmath>
#include <limits>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

// Positions are handled in chunks of this many from position 0 on, each with its own maximum, and merged in
// order. The cut depends on positions alone, so a row's bits depend neither on how its prompt was split into
// steps nor on the threads.
constexpr int64_t kChunk = 512;
// Query vectors (rows times heads of a kv head) that are computed together.
constexpr int64_t kRows = 48;

// Rows of one segment that are computed together with all query heads of one kv head.
struct Tile {
  const AttentionSegment* segment;
  int64_t first;  // within the segment
  int64_t rows;
  int64_t chunks;
  int64_t part;  // index of its first partial result, per kv head
};

// Softmax-weighted values of `m` query vectors over some positions: maxima, sums, unnormalised outputs [m,
// d].
struct Partial {
  float* max;
  float* sum;
  float* out;
};

class PagedAttentionRun {
 public:
  PagedAttentionRun(CpuContext& context, const PagedAttentionArgs& args)
      : c_(context),
        a_(args),
        d_(args.q.dim(2)),
        kv_heads_(args.k_cache.dim(1)),
        block_size_(args.k_cache.dim(2)),
        group_(args.q.dim(1) / kv_heads_),
        tile_rows_(std::max<int64_t>(1, kRows / group_)),
        vectors_(tile_rows_ * group_),
        partial_size_(vectors_ * (d_ + 2)) {}

  void Run() {
    Plan();
    const int64_t tasks = tile_count_ * kv_heads_;
    // scaled queries, scores, then the chunk's and the running result
    work_size_ = vectors_ * (d_ + kChunk) + 2 * partial_size_;
    work_ = c_.worker_scratch.Get<float>(c_.pool.threads() * work_size_);
    if (tasks < 2 * c_.pool.threads() && parts_ > tile_count_ && c_.pool.threads() > 1) {
      RunSplit();
      return;
    }
    const int64_t cost = 4 * vectors_ * d_ * kChunk / 8;
    const int64_t grain = std::max<int64_t>(1, CpuContext::kMinimumCost / std::max<int64_t>(cost, 1));
    c_.pool.ParallelFor(tasks, grain, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) {
        const Tile& tile = tiles_[i / kv_heads_];
        const Partial chunk = WorkPartial(worker, 0);
        const Partial all = WorkPartial(worker, 1);
        Clear(all);
        for (int64_t c = 0; c < tile.chunks; ++c) {
          Attend(tile, i % kv_heads_, c, worker, chunk);
          Merge(chunk, all, tile.rows * group_);
        }
        Write(tile, i % kv_heads_, all);
      }
    });
  }

 private:
  void Plan() {
    int64_t most = 0;
    for (const AttentionSegment& s : a_.segments) most += (s.count + tile_rows_ - 1) / tile_rows_;
    tiles_ = c_.index_scratch.Get<Tile>(most);
    for (const AttentionSegment& s : a_.segments) {
      if (s.blocks.empty()) {
        for (int64_t t = s.row; t < s.row + s.count; ++t)
          std::fill_n(a_.out.mut_row<float>(t), a_.out.dim(1), 0.0F);
        continue;
      }
      for (int64_t i = 0; i < s.count; i += tile_rows_) {
        const int64_t rows = std::min(tile_rows_, s.count - i);
        const int64_t chunks = (s.position + i + rows + kChunk - 1) / kChunk;
        tiles_[tile_count_++] = {&s, i, rows, chunks, parts_};
        parts_ += chunks;
      }
    }
  }

  // Few tiles and long contexts (decode): the chunks themselves are handed out. Same chunks, same order of
  // merging, same bits.
  void RunSplit() {
    partials_ = c_.shared_scratch.Get<float>(parts_ * kv_heads_ * partial_size_);
    c_.pool.ParallelFor(parts_ * kv_heads_, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t part = i / kv_heads_;
        int64_t t = 0;
        while (tiles_[t].part + tiles_[t].chunks <= part) ++t;
        Attend(tiles_[t], i % kv_heads_, part - tiles_[t].part, worker, SharedPartial(i));
      }
    });
    c_.pool.ParallelFor(tile_count_ * kv_heads_, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) {
        const Tile& tile = tiles_[i / kv_heads_];
        const Partial all = WorkPartial(worker, 1);
        Clear(all);
        for (int64_t c = 0; c < tile.chunks; ++c) {
          Merge(SharedPartial((tile.part + c) * kv_heads_ + i % kv_heads_), all, tile.rows * group_);
        }
        Write(tile, i % kv_heads_, all);
      }
    });
  }

  Partial At(float* base) const { return {base, base + vectors_, base + 2 * vectors_}; }
  Partial SharedPartial(int64_t i) const { return At(partials_ + i * partial_size_); }
  Partial WorkPartial(int worker, int64_t which) const {
    return At(work_ + worker * work_size_ + vectors_ * (d_ + kChunk) + which * partial_size_);
  }
  void Clear(const Partial& p) const {
    std::fill_n(p.max, vectors_, -std::numeric_limits<float>::infinity());
    std::fill_n(p.sum, vectors_, 0.0F);
    std::fill_n(p.out, vectors_ * d_, 0.0F);
  }

  // Calls fn(offset into the chunk, positions, element offset into a cache) for each cache block of it.
  template <typename F>
  void ForBlocks(const Tile& tile, int64_t kv_head, int64_t begin, int64_t end, F&& fn) const {
    for (int64_t p = begin; p < end;) {
      const int64_t inside = p % block_size_;
      const int64_t count = std::min(block_size_ - inside, end - p);
      const int64_t block = tile.segment->blocks[static_cast<size_t>(p / block_size_)];
      fn(p - begin, count, ((block * kv_heads_ + kv_head) * block_size_ + inside) * d_);
      p += count;
    }
  }
  static const void* CacheAt(const TensorView& cache, int64_t offset) {
    return static_cast<const char*>(cache.raw()) + offset * static_cast<int64_t>(ByteSize(cache.dtype()));
  }

  void Attend(const Tile& tile, int64_t kv_head, int64_t chunk, int worker, const Partial& result) const {
    const int64_t m = tile.rows * group_;
    const int64_t position = tile.segment->position + tile.first;
    const int64_t begin = chunk * kChunk;
    const int64_t end = std::min(begin + kChunk, position + tile.rows);
    float* q = work_ + worker * work_size_;
    float* scores = q + vectors_ * d_;
    for (int64_t i = 0; i < tile.rows; ++i) {
      const float* from = a_.q.row<float>(tile.segment->row + tile.first + i) + kv_head * group_ * d_;
      c_.k.scale_by(from, a_.scale, nullptr, false, q + i * group_ * d_, group_ * d_);
    }
    ForBlocks(tile, kv_head, begin, end, [&](int64_t at, int64_t count, int64_t offset) {
      c_.k.linear({.x = q,
                   .ldx = d_,
                   .w = CacheAt(a_.k_cache, offset),
                   .ldw = d_,
                   .w_type = WeightTypeOf(a_.k_cache),
                   .out = scores + at,
                   .ldo = kChunk,
                   .t = m,
                   .n = count,
                   .k = d_,
                   .work = c_.LinearWork(worker)});
    });
    for (int64_t i = 0; i < m; ++i) {
      const int64_t valid = std::min(end, position + i / group_ + 1) - begin;
      if (valid <= 0) {  // the chunk begins after this row
        std::fill_n(scores + i * kChunk, end - begin, 0.0F);
        result.max[i] = -std::numeric_limits<float>::infinity();
        result.sum[i] = 0;
        continue;
      }
      result.sum[i] = c_.k.softmax(scores + i * kChunk, valid, end - begin, &result.max[i]);
    }
    ForBlocks(tile, kv_head, begin, end, [&](int64_t at, int64_t count, int64_t offset) {
      c_.k.product({.a = scores + at,
                    .a_row = kChunk,
                    .b = CacheAt(a_.v_cache, offset),
                    .ldb = d_,
                    .b_bf16 = IsBF16(a_.v_cache),
                    .c = result.out,
                    .ldc = d_,
                    .c_scale = at == 0 ? 0.0F : 1.0F,
                    .m = m,
                    .n = d_,
                    .k = count});
    });
  }

  void Merge(const Partial& part, const Partial& all, int64_t m) const {
    for (int64_t i = 0; i < m; ++i) {
      if (part.sum[i] == 0) continue;  // saw no position; a sum over any position is at least exp(0)
      const float max = part.max[i] > all.max[i] ? part.max[i] : all.max[i];
      const float old_scale = std::exp(all.max[i] - max);
      const float new_scale = std::exp(part.max[i] - max);
      all.sum[i] = all.sum[i] * old_scale + part.sum[i] * new_scale;
      c_.k.add_scaled(all.out + i * d_, old_scale, part.out + i * d_, new_scale, all.out + i * d_, d_);
      all.max[i] = max;
    }
  }

  void Write(const Tile& tile, int64_t kv_head, const Partial& all) const {
    for (int64_t i = 0; i < tile.rows * group_; ++i) {
      float* out = a_.out.mut_row<float>(tile.segment->row + tile.first + i / group_) +
                   (kv_head * group_ + i % group_) * d_;
      c_.k.scale_by(all.out + i * d_, 1.0F / all.sum[i], nullptr, false, out, d_);
    }
  }

  CpuContext& c_;
  const PagedAttentionArgs& a_;
  const int64_t d_;
  const int64_t kv_heads_;
  const int64_t block_size_;
  const int64_t group_;
  const int64_t tile_rows_;
  const int64_t vectors_;  // query vectors of a full tile
  const int64_t partial_size_;
  Tile* tiles_ = nullptr;
  int64_t tile_count_ = 0;
  int64_t parts_ = 0;
  int64_t work_size_ = 0;
  float* work_ = nullptr;
  float* partials_ = nullptr;
};

}  // namespace

absl::Status CpuOps::PagedAttention(Stream&, const PagedAttentionArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  if (args.q.dim(1) == 0 || args.q.dim(2) == 0) return absl::OkStatus();
  PagedAttentionRun(context_, args).Run();
  return absl::OkStatus();
}

}  // namespace fulger
