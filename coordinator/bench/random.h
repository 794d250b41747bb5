// The same numbers from the same seed on every machine and with every standard library, which <random>'s
// distributions do not promise.
#pragma once

#include <cmath>
#include <cstdint>

namespace fulger::bench {

class Random {
 public:
  // Streams of different `stream` are unrelated: request 7 is the same whatever was drawn for request 6.
  explicit Random(uint64_t seed, uint64_t stream = 0)
      : state_(Mix(seed) ^ Mix(stream + 0x632be59bd9b4e019ULL)) {}

  uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    return Mix(state_);
  }
  double Uniform() { return (static_cast<double>(Next() >> 11) + 0.5) * 0x1p-53; }  // in (0, 1)
  int64_t Below(int64_t bound) { return static_cast<int64_t>(Uniform() * static_cast<double>(bound)); }
  double Exponential() { return -std::log(Uniform()); }  // of mean 1

 private:
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  uint64_t state_;
};

}  // namespace fulger::bench
