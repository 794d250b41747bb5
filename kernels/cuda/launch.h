// What the .cu files offer to the op files: plain structs of device pointers, and functions that launch. No
// argument is checked here (the ops have done that) and nothing is allocated. A launcher returns what the
// launch itself says; faults while running show at the stream's next synchronisation. Lengths are in
// elements, `ld` is the distance between rows. A launch of nothing is legal.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace fulger::cuda {

enum class Element { kF32, kBF16 };

struct Rows {  // float32, columns contiguous
  const float* p = nullptr;
  int64_t ld = 0;
};
struct MutRows {
  float* p = nullptr;
  int64_t ld = 0;
};
struct Vector {  // float32 or bfloat16
  const void* p = nullptr;
  Element type = Element::kF32;
};

// The first index that an op met outside of its range; code 0: none. The stream's Synchronize reports it.
struct Fault {
  enum Code : int32_t { kNone, kGather, kScatter };
  int32_t code = kNone;
  int32_t at = 0;
  int32_t value = 0;
  int32_t low = 0;
  int32_t high = 0;
};

// norm_rows.cu
struct NormLaunch {
  Rows x;                     // the residual of AddRmsNorm
  Rows branch;                // AddRmsNorm only
  float alpha = 1, beta = 1;  // AddRmsNorm only
  Vector w, b;                // b: LayerNorm only
  float eps = 0;
  MutRows out;
  int32_t* health = nullptr;  // null: none
  int32_t tag = 0;
  int64_t rows = 0, width = 0;
};
cudaError_t RmsNorm(cudaStream_t stream, const NormLaunch& a);
cudaError_t AddRmsNorm(cudaStream_t stream, const NormLaunch& a);
cudaError_t LayerNorm(cudaStream_t stream, const NormLaunch& a);
// out = sigmoid(gate) * w * o; sumsq[t * sumsq_ld] = sum of o^2, NaN where a gate is not finite
cudaError_t LightningGate(cudaStream_t stream, Rows o, Rows gate, Vector w, MutRows out, float* sumsq,
                          int64_t sumsq_ld, int64_t rows, int64_t width);

// rows.cu
cudaError_t AddScaled(cudaStream_t stream, Rows a, float alpha, Rows b, float beta, MutRows out, int64_t rows,
                      int64_t width);
cudaError_t ScaleByRms(cudaStream_t stream, MutRows x, const float* sumsq, int64_t sumsq_ld,
                       int64_t norm_width, float eps, int64_t rows, int64_t width);
cudaError_t Gelu(cudaStream_t stream, MutRows x, int64_t rows, int64_t width);
cudaError_t Embedding(cudaStream_t stream, const int32_t* ids, Vector table, int64_t table_ld,
                      int64_t first_row, int64_t table_rows, MutRows out, int64_t rows, int64_t width);
cudaError_t GatherRows(cudaStream_t stream, Rows src, int64_t src_rows, const int32_t* index, Vector fill,
                       MutRows out, int64_t rows, int64_t width, Fault* fault);
cudaError_t ScatterRows(cudaStream_t stream, Rows src, const int32_t* index, MutRows out, int64_t out_rows,
                        int64_t rows, int64_t width, Fault* fault);
// out[t, :] = bias (zero if absent)
cudaError_t FillRows(cudaStream_t stream, Vector bias, MutRows out, int64_t rows, int64_t width);

// vision.cu
struct PatchifyLaunch {
  const uint8_t* tiles = nullptr;
  int64_t tile_count = 0, side = 0, patch = 0;
  float mean[3] = {}, std[3] = {};
  MutRows out;
};
cudaError_t Patchify(cudaStream_t stream, const PatchifyLaunch& a);
cudaError_t VitEmbed(cudaStream_t stream, Rows patches, Vector cls, Vector position, float* out,
                     int64_t tiles, int64_t positions, int64_t width);

// Products with a weight: out[r, j] = sum_k x[source(r), k] * w[expert(r)][j, k] (+ bias[j]).
// Without `tiles`: one weight, source(r) = r. With `tiles` (mixture of experts): a device table of runs of
// rows that share an expert; source(r) = row_of[r] if given.
struct GroupTile {
  int32_t expert, row, rows;
};
constexpr int kGroupTileRows = 64;
struct ProductLaunch {
  Rows x;
  const int32_t* row_of = nullptr;
  Vector w;
  int64_t ldw = 0;
  int64_t expert_stride = 0;
  Vector bias;  // p null: none
  MutRows out;
  int64_t rows = 0, n = 0, k = 0;  // rows: of all tiles, or an upper bound
  const GroupTile* tiles = nullptr;
  const int32_t* tile_count = nullptr;  // device
  int64_t max_tiles = 0;
};
// product_f32.cu: float32 weights. One order of summation for every shape: k ascending.
cudaError_t ProductF32(cudaStream_t stream, const ProductLaunch& a);
// product_tensor.cu: bfloat16 weights on tensor cores; x is split into three bfloat16 parts, whose products
// with the weight are exact, so that float32 activations lose nothing.
cudaError_t ProductTensor(cudaStream_t stream, const ProductLaunch& a);
// parts: three bfloat16 [rows, k], one after another.
cudaError_t SplitToBF16(cudaStream_t stream, Rows x, int64_t rows, int64_t k, void* parts);
// product_stream.cu: bfloat16 weights and few rows (at most kStreamRows): reads each weight once. One order
// of summation for every number of rows.
constexpr int64_t kStreamRows = 8;
cudaError_t ProductStream(cudaStream_t stream, const ProductLaunch& a);

// moe.cu
struct MoeIndexLaunch {
  const int32_t* ids = nullptr;  // [tokens, k]
  int64_t tokens = 0, k = 0, experts = 0, first_expert = 0;
  int32_t* first = nullptr;    // [experts + 1]: the pairs of expert e are [first[e], first[e + 1])
  int32_t* token = nullptr;    // [tokens * k]: the token of each pair
  int32_t* pair_of = nullptr;  // [tokens * k]: the pair of each choice; -1: held elsewhere
  GroupTile* tiles = nullptr;
  int32_t* tile_count = nullptr;
};
cudaError_t MoeIndex(cudaStream_t stream, const MoeIndexLaunch& a);
struct MoeStreamLaunch {  // few tokens: each expert's weights pass once for its tokens
  Rows x;
  const int32_t* first = nullptr;
  const int32_t* token = nullptr;
  const void* w1 = nullptr;  // bfloat16 [experts, f, h]
  const void* w3 = nullptr;
  const void* w2 = nullptr;  // bfloat16 [experts, h, f]
  float* hidden = nullptr;   // [pairs, f]
  float* down = nullptr;     // [pairs, h]
  int64_t tokens = 0, experts = 0, h = 0, f = 0;
};
cudaError_t MoeStream(cudaStream_t stream, const MoeStreamLaunch& a);
// gate = SiLU(gate) * up; only the first *pairs rows of `max_pairs` hold anything.
cudaError_t SiluMul(cudaStream_t stream, float* gate, const float* up, const int32_t* pairs,
                    int64_t max_pairs, int64_t width);
// out[t] = sum over the token's pairs, ascending, of weights[t, choice] * down[pair]
cudaError_t MoeCombine(cudaStream_t stream, const float* down, const int32_t* pair_of, const float* weights,
                       int64_t k, MutRows out, int64_t tokens, int64_t width);

// router.cu
cudaError_t Router(cudaStream_t stream, Rows x, Vector gate, int64_t gate_ld, int32_t* ids, float* weights,
                   int64_t rows, int64_t width, int64_t experts, int64_t k);

// rope_cache.cu
struct RopeRow {
  int32_t row, position, block;
};
struct RopeLaunch {
  const RopeRow* work = nullptr;  // device
  int64_t count = 0;
  const float* inv_freq = nullptr;  // device
  int64_t pairs = 0;
  MutRows q;
  Rows k, v;
  void* k_cache = nullptr;
  void* v_cache = nullptr;
  Element cache_type = Element::kF32;
  int64_t heads = 0, kv_heads = 0, d = 0, block_size = 0;
};
cudaError_t RopeAndCache(cudaStream_t stream, const RopeLaunch& a);

// attention.cu. A tile is up to kAttentionVectors query vectors that share a kv head: vector i of a segment
// is query head i % group of its row i / group. Keys are taken in splits of kAttentionSplit positions from 0
// on; each split has its own maximum, and splits are merged in order: so a row's bits depend neither on the
// batch nor on who computes which split.
constexpr int kAttentionVectors = 16;
constexpr int kAttentionSplit = 256;
constexpr int kAttentionMaxDim = 256;
struct AttentionTile {
  int64_t q = 0, out = 0;  // offsets of the segment's first row
  int64_t k = 0, v = 0;    // contiguous keys: offset of position 0
  int32_t table = 0;       // paged keys: where the segment's blocks start in `blocks`
  int32_t position = 0;    // of the segment's first row
  int32_t first = 0;       // first vector of the tile
  int32_t vectors = 0;
  int32_t split = 0;   // first split
  int32_t splits = 0;  // how many this tile takes
  int32_t part = -1;   // where its partial result goes; -1: it takes all splits and writes `out`
};
struct AttentionMerge {  // of the partial results [part, part + parts) of a tile
  int32_t tile = 0, part = 0, parts = 0;
};
struct AttentionLaunch {
  const AttentionTile* tiles = nullptr;  // device
  int64_t tile_count = 0;
  const AttentionMerge* merges = nullptr;  // device
  int64_t merge_count = 0;
  float* partials = nullptr;  // [parts, kv_heads, kAttentionVectors, d + 2]
  const float* q = nullptr;
  int64_t q_row = 0, q_head = 0;  // strides
  const void* k = nullptr;
  const void* v = nullptr;
  Element kv_type = Element::kF32;
  // Paged keys: `blocks` is given, positions are found through it. Contiguous keys: strides; every row of the
  // tile sees all `keys` of them.
  const int32_t* blocks = nullptr;
  int64_t block_size = 0;
  int64_t k_row = 0, k_head = 0, v_row = 0, v_head = 0;
  int64_t keys = 0;
  float* out = nullptr;
  int64_t out_row = 0;
  int64_t kv_heads = 0, group = 0, d = 0;
  float scale = 1;
};
cudaError_t Attention(cudaStream_t stream, const AttentionLaunch& a);

// lightning_decode.cu: one token per item; slot -1 writes zeros and touches no state.
struct LightningToken {
  int32_t row, slot;
};
struct LightningLaunch {
  Rows qkv;
  const float* slopes = nullptr;
  float* states = nullptr;
  MutRows out;
  int64_t heads = 0, d = 0;
  const LightningToken* tokens = nullptr;  // device
  int64_t token_count = 0;
};
cudaError_t LightningDecode(cudaStream_t stream, const LightningLaunch& a);

// lightning_prefill.cu: three passes over chunks of at most kLightningChunk tokens: what each chunk adds to
// the state (all chunks at once), the states before each chunk (one after another), the outputs (all at
// once).
constexpr int kLightningChunk = 128;
struct LightningChunk {
  int32_t row, count;
};
struct LightningRun {  // the chunks of one segment
  int32_t first, chunks, slot;
};
struct LightningPrefillLaunch {
  Rows qkv;
  const float* slopes = nullptr;
  float* states = nullptr;
  MutRows out;
  int64_t heads = 0, d = 0;
  const LightningChunk* chunks = nullptr;  // device
  int64_t chunk_count = 0;
  const LightningRun* runs = nullptr;  // device
  int64_t run_count = 0;
  float* updates = nullptr;  // [chunks, heads, d, d]
};
cudaError_t LightningPrefill(cudaStream_t stream, const LightningPrefillLaunch& a);

// probe.cu: cudaErrorNoKernelImageForDevice where this binary holds no code for the current device.
cudaError_t ProbeArchitecture();

}  // namespace fulger::cuda
