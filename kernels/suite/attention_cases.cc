#include <algorithm>
#include <cmath>

#include "kernels/suite/op_suite.h"
#include "kernels/suite/reference.h"

namespace fulger {
namespace {

size_t At(int64_t i) { return static_cast<size_t>(i); }

struct Geometry {
  int64_t heads, kv_heads, d, rotary, block_size;
};

struct Sequence {
  int64_t length;
  std::vector<int32_t> blocks;
  Operand q, k, v;  // of all its tokens, before rotation
};

std::vector<float> Frequencies(int64_t rotary) {
  std::vector<float> f;
  for (int64_t i = 0; i < rotary / 2; ++i) {
    f.push_back(std::pow(10000.0F, -2.0F * static_cast<float>(i) / static_cast<float>(rotary)));
  }
  return f;
}

// Shuffled block tables, several sequences, chunks with history, decode, padding: all rows against the
// reference, and the same bits however the prompt was cut.
void RunAttention(Device& device, Ops& ops, Stream& stream, std::mt19937_64& rng, const Geometry& g,
                  DType cache_type, std::vector<Sequence>& sequences, int64_t max_chunk,
                  std::vector<Values>& out_rows) {
  int64_t blocks = 3;
  for (const Sequence& s : sequences) blocks += static_cast<int64_t>(s.blocks.size());
  const Operand k_cache(device, cache_type, {blocks, g.kv_heads, g.block_size, g.d}, 0);
  const Operand v_cache(device, cache_type, {blocks, g.kv_heads, g.block_size, g.d}, 0);
  const std::vector<float> inv_freq = Frequencies(g.rotary);
  std::vector<int64_t> done(sequences.size(), 0);
  out_rows.clear();
  for (const Sequence& s : sequences) out_rows.emplace_back(At(s.length * g.heads * g.d));
  for (;;) {
    // A step: some rows of each unfinished sequence, with padding between.
    std::vector<AttentionSegment> segments;
    std::vector<size_t> owner;
    Values q, k, v;
    int64_t rows = 0;
    auto append = [](Values& to, const Values& from, int64_t row, int64_t count, int64_t width) {
      to.insert(to.end(), from.begin() + row * width, from.begin() + (row + count) * width);
    };
    for (size_t i = 0; i < sequences.size(); ++i) {
      const Sequence& s = sequences[i];
      const int64_t left = s.length - done[i];
      if (left == 0) continue;
      const int64_t count = std::uniform_int_distribution<int64_t>(1, std::min(left, max_chunk))(rng);
      segments.push_back({.row = rows, .count = count, .position = done[i], .blocks = s.blocks});
      owner.push_back(i);
      append(q, s.q.values(), done[i], count, g.heads * g.d);
      append(k, s.k.values(), done[i], count, g.kv_heads * g.d);
      append(v, s.v.values(), done[i], count, g.kv_heads * g.d);
      rows += count;
    }
    if (segments.empty()) break;
    segments.push_back({.row = rows, .count = 2, .position = 0, .blocks = {}});
    rows += 2;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    q.resize(At(rows * g.heads * g.d), nan);
    k.resize(At(rows * g.kv_heads * g.d), nan);
    v.resize(At(rows * g.kv_heads * g.d), nan);

    Operand q_in(device, DType::kF32, {rows, g.heads, g.d}, 3);
    Operand k_in(device, DType::kF32, {rows, g.kv_heads, g.d}, 5);
    Operand v_in(device, DType::kF32, {rows, g.kv_heads, g.d}, 0);
    q_in.Upload(q);
    k_in.Upload(k);
    v_in.Upload(v);
    const Operand out(device, DType::kF32, {rows, g.heads * g.d}, 1);
    ASSERT_OK(ops.RopeAndCache(stream, {.q = q_in.mut(),
                                        .k = k_in.view(),
                                        .v = v_in.view(),
                                        .inv_freq = inv_freq,
                                        .segments = segments,
                                        .k_cache = k_cache.mut(),
                                        .v_cache = v_cache.mut()}));
    ASSERT_OK(ops.PagedAttention(stream, {.q = q_in.view(),
                                          .k_cache = k_cache.view(),
                                          .v_cache = v_cache.view(),
                                          .segments = segments,
                                          .scale = 1.0F / std::sqrt(static_cast<float>(g.d)),
                                          .out = out.mut()}));
    const Values got = out.Download();
    k_in.Download();
    const int64_t width = g.heads * g.d;
    for (size_t i = 0; i < owner.size(); ++i) {
      const AttentionSegment& s = segments[i];
      std::copy_n(got.begin() + s.row * width, s.count * width,
                  out_rows[owner[i]].begin() + s.position * width);
      done[owner[i]] += s.count;
    }
    for (int64_t i = (rows - 2) * width; i < rows * width; ++i) ASSERT_EQ(got[At(i)], 0.0) << "padding row";
  }
  k_cache.Download();  // sentinels
  v_cache.Download();
}

TEST_P(OpSuite, PagedAttentionMatchesTheReference) {
  const Geometry geometries[] = {{1, 1, 8, 8, 1}, {4, 2, 12, 6, 4}, {8, 1, 32, 16, 16}, {6, 6, 20, 20, 7}};
  for (const Geometry& g : geometries) {
    for (const DType cache_type : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(testing::Message() << "heads " << g.heads << "/" << g.kv_heads << " d " << g.d << " block "
                                      << g.block_size << " " << Name(cache_type));
      const std::vector<float> inv_freq = Frequencies(g.rotary);
      std::vector<Sequence> sequences(3);
      std::vector<int32_t> ids(400);
      for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
      const int64_t lengths[] = {1, Pick(2, 40), Pick(41, 90)};
      int64_t total = 3;
      for (const int64_t n : lengths) total += (n + g.block_size - 1) / g.block_size;
      ids.resize(At(total));
      std::shuffle(ids.begin(), ids.end(), rng());
      for (size_t i = 0; i < sequences.size(); ++i) {
        Sequence& s = sequences[i];
        s.length = lengths[i];
        for (int64_t b = 0; b < (s.length + g.block_size - 1) / g.block_size; ++b) {
          s.blocks.push_back(ids.back());
          ids.pop_back();
        }
        s.q = Input(DType::kF32, {s.length, g.heads, g.d});
        s.k = Input(DType::kF32, {s.length, g.kv_heads, g.d});
        s.v = Input(DType::kF32, {s.length, g.kv_heads, g.d});
      }
      std::vector<Values> whole;
      RunAttention(device(), ops(), stream(), rng(), g, cache_type, sequences, /*max_chunk=*/1000, whole);
      std::vector<Values> chunked;
      RunAttention(device(), ops(), stream(), rng(), g, cache_type, sequences, /*max_chunk=*/7, chunked);

      const double scale = 1.0 / std::sqrt(static_cast<double>(g.d));
      const bool bf16 = cache_type == DType::kBF16;
      for (size_t i = 0; i < sequences.size(); ++i) {
        const Sequence& s = sequences[i];
        EXPECT_TRUE(Same({s.length, g.heads * g.d}, chunked[i], whole[i]))
            << "cut into chunks, sequence " << i;
        Values q = s.q.values();
        Values k = s.k.values();
        for (int64_t t = 0; t < s.length; ++t) {
          ref::Rotate(q.data() + t * g.heads * g.d, g.heads, g.d, inv_freq, t);
          ref::Rotate(k.data() + t * g.kv_heads * g.d, g.kv_heads, g.d, inv_freq, t);
        }
        Values want;
        Values bound;
        for (int64_t t = 0; t < s.length; ++t) {
          for (int64_t h = 0; h < g.heads; ++h) {
            const int64_t kv = h / (g.heads / g.kv_heads);
            Values keys, values;
            double key_size = 0;
            double value_size = 0;
            const double* qv = q.data() + (t * g.heads + h) * g.d;
            for (int64_t j = 0; j <= t; ++j) {
              double dot = 0;
              for (int64_t e = 0; e < g.d; ++e) {
                keys.push_back(k[At((j * g.kv_heads + kv) * g.d + e)]);
                values.push_back(s.v.values()[At((j * g.kv_heads + kv) * g.d + e)]);
                dot += std::abs(qv[e] * keys.back()) * scale;
                value_size = std::max(value_size, std::abs(values.back()));
              }
              key_size = std::max(key_size, dot);
            }
            const Values row = ref::Attend(qv, keys, values, t + 1, g.d, scale);
            // An error e of a score changes its weight by a factor exp(e), and all outputs by at most 2e
            // times the largest value; bf16 keys and values are off by 2^-9 each.
            const double store = bf16 ? std::ldexp(1.0, -9) : 0.0;
            const double score_error = (SumBound(g.d) + 4 * kEps + store) * key_size;
            for (const double x : row) {
              want.push_back(x);
              bound.push_back((2 * std::expm1(score_error) + SumBound(t + 1) + store) * value_size);
            }
          }
        }
        EXPECT_TRUE(Near({s.length, g.heads, g.d}, whole[i], want, [&](size_t e) { return bound[e]; }))
            << "sequence " << i << " of length " << s.length;
      }
    }
  }
}

TEST_P(OpSuite, PagedAttentionOverALongContext) {
  // Past several of any backend's inner chunks; one decode row, so that backends split the context.
  const Geometry g{4, 2, 16, 0, 16};
  const int64_t n = 2500 + Pick(0, 99);
  const int64_t blocks = (n + g.block_size - 1) / g.block_size;
  const Operand k_cache = Input(DType::kF32, {blocks, g.kv_heads, g.block_size, g.d});
  const Operand v_cache = Input(DType::kF32, {blocks, g.kv_heads, g.block_size, g.d});
  const Operand q = Input(DType::kF32, {1, g.heads, g.d}, 2.0);
  const Operand out = Output(DType::kF32, {1, g.heads * g.d});
  std::vector<int32_t> table(At(blocks));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  std::shuffle(table.begin(), table.end(), rng());
  const AttentionSegment segment{.row = 0, .count = 1, .position = n - 1, .blocks = table};
  ASSERT_OK(ops().PagedAttention(stream(), {.q = q.view(),
                                            .k_cache = k_cache.view(),
                                            .v_cache = v_cache.view(),
                                            .segments = {&segment, 1},
                                            .scale = 0.25F,
                                            .out = out.mut()}));
  Values want;
  Values bound;
  for (int64_t h = 0; h < g.heads; ++h) {
    Values keys, values;
    double key_size = 0;
    for (int64_t p = 0; p < n; ++p) {
      const int64_t row =
          (table[At(p / g.block_size)] * g.kv_heads + h / 2) * g.block_size + p % g.block_size;
      double dot = 0;
      for (int64_t e = 0; e < g.d; ++e) {
        keys.push_back(k_cache.values()[At(row * g.d + e)]);
        values.push_back(v_cache.values()[At(row * g.d + e)]);
        dot += std::abs(keys.back() * q.values()[At(h * g.d + e)]) * 0.25;
      }
      key_size = std::max(key_size, dot);
    }
    for (const double x : ref::Attend(q.values().data() + h * g.d, keys, values, n, g.d, 0.25)) {
      want.push_back(x);
      bound.push_back((4 * SumBound(g.d) * key_size + SumBound(n)) * 8);
    }
  }
  EXPECT_TRUE(Near(out.shape(), out.Download(), want, [&](size_t i) { return bound[i]; }));
}

// With so many rows a backend need not cut a long context over its processors, which for one row it does: the
// same bits all the same.
TEST_P(OpSuite, PagedAttentionOfManyRowsGivesTheBitsOfOne) {
  const Geometry g{4, 2, 16, 0, 16};
  const int64_t n = 257 + Pick(0, 90);
  constexpr int64_t kCopies = 300;
  const int64_t blocks = (n + g.block_size - 1) / g.block_size;
  const Operand k_cache = Input(DType::kF32, {blocks, g.kv_heads, g.block_size, g.d});
  const Operand v_cache = Input(DType::kF32, {blocks, g.kv_heads, g.block_size, g.d});
  const Values row = Random(g.heads * g.d, 2.0);
  std::vector<int32_t> table(At(blocks));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  std::shuffle(table.begin(), table.end(), rng());
  const auto run = [&](int64_t copies) {
    Values values;
    std::vector<AttentionSegment> segments;
    for (int64_t i = 0; i < copies; ++i) {
      values.insert(values.end(), row.begin(), row.end());
      segments.push_back({.row = i, .count = 1, .position = n - 1, .blocks = table});
    }
    const Operand q = InputOf(DType::kF32, {copies, g.heads, g.d}, values);
    const Operand out = Output(DType::kF32, {copies, g.heads * g.d});
    EXPECT_OK(ops().PagedAttention(stream(), {.q = q.view(),
                                              .k_cache = k_cache.view(),
                                              .v_cache = v_cache.view(),
                                              .segments = segments,
                                              .scale = 0.25F,
                                              .out = out.mut()}));
    return out.Download();
  };
  const Values one = run(1);
  Values want;
  for (int64_t i = 0; i < kCopies; ++i) want.insert(want.end(), one.begin(), one.end());
  EXPECT_TRUE(Same({kCopies, g.heads * g.d}, run(kCopies), want));
}

TEST_P(OpSuite, RopeWritesRotatedKeysAndPlainValues) {
  const std::vector<float> inv_freq = {1.0F, 0.01F};
  const Operand q = Input(DType::kF32, {3, 2, 6});
  const Operand k = Input(DType::kF32, {3, 1, 6});
  const Operand v = Input(DType::kF32, {3, 1, 6});
  const Operand k_cache = Output(DType::kF32, {4, 1, 2, 6});
  const Operand v_cache = Output(DType::kF32, {4, 1, 2, 6});
  const std::vector<int32_t> table = {3, 0, 2};
  // Positions 3, 4, 5: entries 1 of block 0, 0 and 1 of block 2.
  const AttentionSegment segment{.row = 0, .count = 3, .position = 3, .blocks = table};
  ASSERT_OK(ops().RopeAndCache(stream(), {.q = q.mut(),
                                          .k = k.view(),
                                          .v = v.view(),
                                          .inv_freq = inv_freq,
                                          .segments = {&segment, 1},
                                          .k_cache = k_cache.mut(),
                                          .v_cache = v_cache.mut()}));
  Values want_q = q.values();
  Values want_k(48, std::numeric_limits<double>::quiet_NaN());
  Values want_v = want_k;
  const int64_t entries[] = {0 * 2 + 1, 2 * 2 + 0, 2 * 2 + 1};
  for (int64_t t = 0; t < 3; ++t) {
    ref::Rotate(want_q.data() + t * 12, 2, 6, inv_freq, 3 + t);
    Values row(k.values().begin() + t * 6, k.values().begin() + (t + 1) * 6);
    ref::Rotate(row.data(), 1, 6, inv_freq, 3 + t);
    std::copy(row.begin(), row.end(), want_k.begin() + entries[t] * 6);
    std::copy_n(v.values().begin() + t * 6, 6, want_v.begin() + entries[t] * 6);
  }
  auto bound = [](size_t) { return 1e-5; };
  EXPECT_TRUE(Near(q.shape(), q.Download(), want_q, bound));
  EXPECT_TRUE(Near(k_cache.shape(), k_cache.Download(), want_k, bound));
  EXPECT_TRUE(Same(v_cache.shape(), v_cache.Download(), want_v));
}

TEST_P(OpSuite, FullAttentionMatchesTheReference) {
  struct Case {
    int64_t tiles, s, heads, d;
  };
  for (const Case& c : {Case{1, 1, 1, 1}, Case{2, 5, 3, 4}, Case{1, 65, 2, 16}, Case{3, 50, 2, 24},
                        Case{0, 4, 1, 8}, Case{1, 577, 1, 12} /* as many as the tower has */}) {
    SCOPED_TRACE(testing::Message() << "tiles " << c.tiles << " S " << c.s << " heads " << c.heads << " d "
                                    << c.d);
    const Shape shape = {c.tiles, c.s, c.heads, c.d};
    const Operand q = Input(DType::kF32, shape, 1.0, Pick(0, 3));
    // k and v share rows, as a fused projection leaves them: [tiles, S, 2 heads, d].
    const Operand kv = Input(DType::kF32, {c.tiles, c.s, 2 * c.heads, c.d});
    const Operand out = Output(DType::kF32, {c.tiles, c.s, c.heads * c.d});
    const float scale = 0.3F;
    ASSERT_OK(ops().FullAttention(stream(), {.q = q.view(),
                                             .k = kv.view().Slice(2, 0, c.heads),
                                             .v = kv.view().Slice(2, c.heads, c.heads),
                                             .scale = scale,
                                             .out = out.mut()}));
    Values want;
    Values bound;
    for (int64_t tile = 0; tile < c.tiles; ++tile) {
      for (int64_t row = 0; row < c.s; ++row) {
        for (int64_t h = 0; h < c.heads; ++h) {
          Values keys, values;
          const double* qv = q.values().data() + ((tile * c.s + row) * c.heads + h) * c.d;
          double key_size = 0;
          double value_size = 0;
          for (int64_t j = 0; j < c.s; ++j) {
            double dot = 0;
            for (int64_t e = 0; e < c.d; ++e) {
              const int64_t base = (tile * c.s + j) * 2 * c.heads + h;
              keys.push_back(kv.values()[At(base * c.d + e)]);
              values.push_back(kv.values()[At((base + c.heads) * c.d + e)]);
              dot += std::abs(qv[e] * keys.back()) * 0.3;
              value_size = std::max(value_size, std::abs(values.back()));
            }
            key_size = std::max(key_size, dot);
          }
          for (const double x : ref::Attend(qv, keys, values, c.s, c.d, static_cast<double>(scale))) {
            want.push_back(x);
            bound.push_back((2 * std::expm1((SumBound(c.d) + 2 * kEps) * key_size) + SumBound(c.s)) *
                            value_size);
          }
        }
      }
    }
    EXPECT_TRUE(Near(out.shape(), out.Download(), want, [&](size_t i) { return bound[i]; }));
  }
}

}  // namespace
}  // namespace fulger
