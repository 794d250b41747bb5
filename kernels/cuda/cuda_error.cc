#include "kernels/cuda/cuda_error.h"

namespace fulger::cuda {
namespace {

int DriverVersion() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

std::string Version(int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); }

// What to do about it; empty where we know nothing better than the error itself.
std::string Cure(cudaError_t error) {
  switch (error) {
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorStubLibrary: {
      const int driver = DriverVersion();
      if (driver == 0) {
        return "this machine has no NVIDIA driver or no GPU; run nvidia-smi to see, or use --device cpu";
      }
      if (driver < CUDART_VERSION / 1000 * 1000) {
        return fmt::format("the driver supports CUDA {}, this build needs {}: install a newer driver",
                           Version(driver), Version(CUDART_VERSION / 1000 * 1000));
      }
      return "the driver shows no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES";
    }
    case cudaErrorInvalidDevice:
      return "there is no GPU of that number: look at nvidia-smi and CUDA_VISIBLE_DEVICES";
    case cudaErrorDevicesUnavailable:
      return "another process holds the GPU exclusively, or it is being reset: look at nvidia-smi";
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
      return "driver and fabric manager are not running or do not match: ask whoever runs the machine";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "this build has no kernels for this GPU: configure with -DFULGER_CUDA_ARCHITECTURES for it";
    case cudaErrorMemoryAllocation:
      return "too little GPU memory: another process may hold some (nvidia-smi), or lower --cache-tokens or "
             "--max-sequences";
    case cudaErrorECCUncorrectable:
      return "the GPU's memory has failed: take it out of service";
    default:
      return {};
  }
}

absl::StatusCode CodeOf(cudaError_t error) {
  switch (error) {
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorStubLibrary:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
      return absl::StatusCode::kUnavailable;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return absl::StatusCode::kFailedPrecondition;
    case cudaErrorMemoryAllocation:
      return absl::StatusCode::kResourceExhausted;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::Status ToStatus(cudaError_t error, std::string_view call) {
  if (error == cudaSuccess) return absl::OkStatus();
  static_cast<void>(cudaGetLastError());
  const std::string cure = Cure(error);
  return MakeStatus(CodeOf(error), "{}: {} ({}){}{}", call.substr(0, call.find('(')),
                    cudaGetErrorString(error), cudaGetErrorName(error), cure.empty() ? "" : "; ", cure);
}

}  // namespace fulger::cuda
