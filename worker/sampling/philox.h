// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a
// random number as a pure function of key and counter. So a draw depends on nothing that happened before it.
#pragma once

#include <array>
#include <cstdint>

namespace fulger {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

constexpr PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = kMultiplier0 * counter[0];
    const uint64_t p1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
  return counter;
}

// The draw for the token at `position` of choice `choice` of a request with `seed`: uniform in [0, 1), a
// multiple of 2^-53. The key is 64 bits, which the seed fills; the choice index is a word of the counter.
constexpr double UniformAt(uint64_t seed, uint32_t choice, int64_t position) {
  const uint64_t p = static_cast<uint64_t>(position);
  const PhiloxCounter x = Philox4x32({static_cast<uint32_t>(p), static_cast<uint32_t>(p >> 32), choice, 0},
                                     {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (static_cast<uint64_t>(x[0] >> 5) << 26) | (x[1] >> 6);
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace fulger
