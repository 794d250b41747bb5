// What this machine can do at most, measured now: every figure of a benchmark stands beside it.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "kernels/cpu/parallel.h"

namespace fulger {

struct MachineLimits {
  double read_bytes_per_second = 0;  // of memory, all threads of the pool together
  double flops_per_second = 0;       // float32 multiply-adds counted as two, on full registers
};

class LimitsProbe {
 public:
  // Holds 384 MiB, larger than any last cache.
  LimitsProbe();
  // Medians of five passes, about a third of a second.
  MachineLimits Measure(ComputePool& pool);
  // The instruction set of the multiply-adds: the widest that this processor has.
  const char* instruction_set() const;

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  std::atomic<uint64_t> sum_{0};
};

}  // namespace fulger
