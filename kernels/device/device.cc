#include "kernels/device/device.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "kernels/cpu/cpu_device.h"
#ifdef FULGER_HAVE_CUDA
#include "kernels/cuda/cuda_device.h"
#endif

namespace fulger {
namespace {

// The N of "cuda:N"; "cuda" is the first GPU.
std::optional<int> CudaOrdinal(std::string_view spec) {
  if (spec == "cuda") return 0;
  if (!spec.starts_with("cuda:")) return std::nullopt;
  const std::string_view digits = spec.substr(5);
  int ordinal = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ordinal);
  if (error != std::errc() || end != digits.data() + digits.size() || ordinal < 0) return std::nullopt;
  return ordinal;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const std::string& spec, const DeviceOptions& options) {
  if (options.threads < 0)
    return InvalidArgument("device {}: threads = {} is negative", spec, options.threads);
  if (spec == "cpu") return MakeCpuDevice(options);
  if (const std::optional<int> ordinal = CudaOrdinal(spec); ordinal.has_value()) {
#ifdef FULGER_HAVE_CUDA
    return MakeCudaDevice(*ordinal, options);
#else
    return FailedPrecondition(
        "device {}: this build has no CUDA backend: build where nvcc of CUDA 13 is on PATH (-DFULGER_CUDA=ON "
        "makes "
        "its absence an error), take the image of deploy/docker's target cuda, or say --device cpu",
        spec);
#endif
  }
  return InvalidArgument("device \"{}\": expected cpu, cuda or cuda:N", spec);
}

absl::StatusOr<Arena> Arena::Make(Device& device, size_t bytes) {
  ASSIGN_OR_RETURN(Buffer buffer, device.Allocate(bytes));
  return Arena(std::move(buffer));
}

absl::StatusOr<MutTensorView> Arena::Allocate(DType dtype, std::initializer_list<int64_t> shape) {
  constexpr size_t kAlignment = 64;
  const size_t start = (used_ + kAlignment - 1) / kAlignment * kAlignment;
  MutTensorView view(static_cast<char*>(buffer_.data()) + start, dtype, shape);
  const auto bytes = static_cast<size_t>(view.bytes());
  if (start > buffer_.bytes() || bytes > buffer_.bytes() - start) {
    return Internal("arena: {} needs {} bytes, {} of {} are left", view.ToString(), bytes,
                    buffer_.bytes() - std::min(start, buffer_.bytes()), buffer_.bytes());
  }
  used_ = start + bytes;
  high_water_ = std::max(high_water_, used_);
  return view;
}

}  // namespace fulger
