// The one place where an error of the CUDA runtime becomes a Status that names the call, the cause and the
// cure.
#pragma once

#include <cuda_runtime.h>

#include <string_view>

#include "base/status.h"

namespace fulger::cuda {

// OK for cudaSuccess; clears the runtime's pending error otherwise.
//   UNAVAILABLE          no GPU, no driver, a driver that is too old, a GPU that another process holds
//   exclusively FAILED_PRECONDITION  no kernels for this GPU's architecture in this build RESOURCE_EXHAUSTED
//   out of memory INTERNAL             everything else; the device context is then lost and the process must
//   end
absl::Status ToStatus(cudaError_t error, std::string_view call);

}  // namespace fulger::cuda

#define CUDA_RETURN_IF_ERROR(expr) RETURN_IF_ERROR(::fulger::cuda::ToStatus((expr), #expr))
