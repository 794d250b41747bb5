// The one way in which kernels are launched: by a function of the runtime's C++ interface and not by nvcc's
// <<<>>>, so that any C++ compiler reads these files (tests/cuda_emulation runs them on the CPU).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace fulger::cuda {

struct LaunchShape {
  dim3 blocks;
  unsigned threads = 0;  // of a block
  size_t shared = 0;     // bytes of dynamic shared memory
};

// Converts `args` to the kernel's parameters. Returns what can be seen without running it: a shape that the
// device does not take, no code for its architecture.
template <typename... Params, typename... Args>
cudaError_t LaunchKernel(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Params...),
                         Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = shape.blocks;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
}

// The block's dynamic shared memory.
extern __shared__ float4 dynamic_shared[];
template <typename T>
__device__ __forceinline__ T* DynamicShared() {
  return reinterpret_cast<T*>(dynamic_shared);
}

}  // namespace fulger::cuda
