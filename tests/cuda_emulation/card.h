// The emulated GPUs of this machine, as the environment describes them; all alike:
//   FULGER_EMULATION_GPUS        how many (1)
//   FULGER_EMULATION_CAPABILITY  compute capability (8.0); the emulated kernels are "for" 8.0 and above
//   FULGER_EMULATION_DRIVER      newest CUDA that the driver supports (the toolkit's own); 0: no driver
//   FULGER_EMULATION_MEMORY_MIB  memory of each (8192)
//   FULGER_EMULATION_HELD_MIB    of that, held by processes that are not there (0)
//   FULGER_EMULATION_ERROR       a cudaError_t that the first use gives (0)
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace fulger::cuda_emulation {

struct Card {
  int gpus = 1;
  int major = 8, minor = 0;
  int driver = CUDART_VERSION;  // 13000: 13.0
  size_t memory = size_t{8192} << 20;
  size_t held = 0;
  cudaError_t error = cudaSuccess;
};

// Read once.
const Card& TheCard();

}  // namespace fulger::cuda_emulation
