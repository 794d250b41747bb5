// The weights and pictures of the model goldens as pure functions, so that none of them is stored: the same
// formula as weight_formula.py and reference_cases.py, where it is explained.
//
//   state  = Fnv1a64(name) ^ Mix64(seed)
//   u_i    = (Mix64(state + (i + 1) * 0x9E3779B97F4A7C15) >> 11) * 2^-53
//   value  = float(base + scale * ((u_i - 0.5) * sqrt(12)))
//
// `name` is the tensor's name in the released checkpoint, whatever format or cut the caller holds: element i
// of a cut tensor is element i of the whole. Pure, thread-safe, no allocation.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace fulger::golden {

constexpr uint64_t Fnv1a64(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325ULL;
  for (char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  return h;
}

// SplitMix64's output function; Mix64(0) == 0.
constexpr uint64_t Mix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

struct WeightRule {
  double base = 0;
  double scale = 0;
};

inline WeightRule RuleFor(std::string_view name, std::span<const int64_t> shape) {
  const auto ends = [name](std::string_view suffix) { return name.ends_with(suffix); };
  if (shape.size() == 1 && ends(".weight")) return {.base = 1.0, .scale = 0.1};  // norms
  if (ends(".bias")) return {.scale = 0.05};
  if (ends("embed_tokens.weight")) return {.scale = 0.02};
  if (ends("position_embedding.weight") || ends("class_embedding") || ends("image_newline")) {
    return {.scale = 0.2};
  }
  double gain = 1.0;
  if (ends(".self_attn.qkv_proj.weight")) gain = 0.2;
  if (ends(".self_attn.q_proj.weight") || ends(".self_attn.k_proj.weight")) gain = 1.5;
  if (ends(".block_sparse_moe.gate.weight") || ends("lm_head.weight")) gain = 2.0;
  int64_t fan_in = 1;
  for (size_t d = 1; d < shape.size(); ++d) fan_in *= shape[d];
  return {.scale = gain / std::sqrt(static_cast<double>(fan_in))};
}

// Element `index` (row-major) of a tensor. Hoist the first two arguments out of loops.
inline float WeightValue(WeightRule rule, uint64_t state, uint64_t index) {
  const uint64_t x = Mix64(state + (index + 1) * 0x9e3779b97f4a7c15ULL);
  const double u = static_cast<double>(x >> 11) * 0x1.0p-53;
  return static_cast<float>(rule.base + rule.scale * ((u - 0.5) * 3.4641016151377544));
}

inline uint64_t WeightState(std::string_view name, uint64_t seed) { return Fnv1a64(name) ^ Mix64(seed); }

// Fills elements first .. first + out.size() - 1 of the tensor; `shape` is that of the whole tensor.
inline void FillWeight(std::string_view name, std::span<const int64_t> shape, uint64_t seed,
                       std::span<float> out, uint64_t first = 0) {
  const WeightRule rule = RuleFor(name, shape);
  const uint64_t state = WeightState(name, seed);
  for (size_t i = 0; i < out.size(); ++i) out[i] = WeightValue(rule, state, first + i);
}

// The crafted router of G4's last layer, [experts, hidden]: experts 3c, 3c+1, 3c+2 share a row, 2.0 at column
// c and zeros elsewhere. Their logits are exactly 2 * x[c] in any order of summation, so they tie bit for
// bit.
inline void FillTieGate(int64_t experts, int64_t hidden, std::span<float> out) {
  for (float& value : out) value = 0.0F;
  for (int64_t e = 0; e < experts; ++e) out[static_cast<size_t>(e * hidden + e / 3)] = 2.0F;
}

// Pixel (y, x), channel c, of tile t of a golden picture; tile 0 is the thumbnail.
constexpr uint8_t TilePixel(int64_t seed, int64_t t, int64_t y, int64_t x, int64_t c) {
  const int64_t v = x * (3 + 5 * t + seed) + y * (7 + 3 * t + 2 * seed) + x * y / 8 * (c + 1) +
                    41 * c * (t + 1) + 17 * seed;
  return static_cast<uint8_t>(v & 255);
}

}  // namespace fulger::golden
