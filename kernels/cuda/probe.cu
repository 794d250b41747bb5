// Asks the runtime whether this binary holds code for the current device.
#include "kernels/cuda/launch.h"

namespace fulger::cuda {
namespace {

__global__ void ProbeKernel() {}

}  // namespace

cudaError_t ProbeArchitecture() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&ProbeKernel));
}

}  // namespace fulger::cuda
