#include "kernels/cuda/cuda_device.h"

#include <algorithm>
#include <utility>

#include "base/human_bytes.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/device/device_memory.h"

namespace fulger {
namespace {

using cuda::CudaContext;
using cuda::ToStatus;

double GiB(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

class CudaStream final : public Stream {
 public:
  explicit CudaStream(CudaContext& context) : context_(context) {}
  absl::Status Synchronize() override {
    CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(context_.stream.get()));
    if (check_) RETURN_IF_ERROR(check_());
    return context_.TakeFault();
  }
  void* native() override { return context_.stream.get(); }
  void OnSynchronize(std::function<absl::Status()> check) override { check_ = std::move(check); }

 private:
  CudaContext& context_;
  std::function<absl::Status()> check_;
};

class CudaDevice final : public Device, public HasOwnMemory {
 public:
  static absl::StatusOr<std::unique_ptr<Device>> Make(int ordinal, const DeviceOptions& options) {
    auto device = std::unique_ptr<CudaDevice>(new CudaDevice());
    CudaContext& c = device->context_;
    c.ordinal = ordinal;
    int count = 0;
    CUDA_RETURN_IF_ERROR(cudaGetDeviceCount(&count));
    if (ordinal >= count) {
      return Unavailable(
          "there is no such GPU, {} found (numbers from 0): look at nvidia-smi and CUDA_VISIBLE_DEVICES, use "
          "fewer "
          "ranks, or --ranks-per-device where several are to share one",
          count);
    }
    CUDA_RETURN_IF_ERROR(cudaSetDevice(ordinal));
    CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&device->properties_, ordinal));
    const cudaDeviceProp& p = device->properties_;
    RETURN_IF_ERROR(Annotate(ToStatus(cuda::ProbeArchitecture(), "kernels for this GPU"),
                             fmt::format("{}, compute capability {}.{}, this build has {}", p.name, p.major,
                                         p.minor, FULGER_CUDA_ARCHITECTURES)));
    const int64_t free_before = device->Memory().free;
    const absl::Status taken = device->TakeResources(options);
    if (taken.code() == absl::StatusCode::kResourceExhausted) {  // not even what every rank needs
      const DeviceMemory memory = device->Memory();
      return Annotate(taken,
                      fmt::format("{}: {} are free of {}, {} are held by other processes and by this one's "
                                  "CUDA context",
                                  p.name, HumanBytes(memory.free), HumanBytes(memory.total),
                                  HumanBytes(memory.total - memory.free)));
    }
    RETURN_IF_ERROR(taken);
    device->own_bytes_ = std::max(int64_t{0}, free_before - device->Memory().free);
    return device;
  }
  // Stream, staging, cuBLASLt and its workspace.
  absl::Status TakeResources(const DeviceOptions& options) {
    CudaContext& c = context_;
    ASSIGN_OR_RETURN(c.stream, cuda::MakeStream());
    ASSIGN_OR_RETURN(c.staging, cuda::Staging::Make());
    ASSIGN_OR_RETURN(c.fault, cuda::MakeDeviceMemory(sizeof(cuda::Fault)));
    CUDA_RETURN_IF_ERROR(cudaMemsetAsync(c.fault.get(), 0, sizeof(cuda::Fault), c.stream.get()));
    if (!options.own_products) {
      ASSIGN_OR_RETURN(c.matmul, cuda::MatmulLt::Make());
    }
    return absl::OkStatus();
  }
  // Work in flight may use what the members own.
  ~CudaDevice() override {
    if (context_.stream != nullptr) static_cast<void>(cudaStreamSynchronize(context_.stream.get()));
  }

  std::string name() const override { return fmt::format("cuda:{}", context_.ordinal); }
  std::string Model() const override { return static_cast<const char*>(properties_.name); }
  DeviceMemory Memory() const override {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    if (cudaSetDevice(context_.ordinal) != cudaSuccess ||
        cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      return {};
    }
    return {.free = static_cast<int64_t>(free_bytes),
            .total = static_cast<int64_t>(total_bytes),
            .own = own_bytes_};
  }
  // The tiles of a product, and so the order of its sums, go with the architecture and with who computes it.
  std::string Arithmetic() const override {
    return fmt::format("cuda {}.{} {}", properties_.major, properties_.minor,
                       context_.matmul == nullptr ? "own" : context_.matmul->version());
  }
  std::string Describe() const override {
    const DeviceMemory memory = Memory();
    int driver = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    return fmt::format(
        "{}: {}, {} SMs, compute capability {}.{}, {:.1f} GiB of memory ({:.1f} free), driver for CUDA "
        "{}.{}, "
        "kernels {}, products by {}",
        name(), properties_.name, properties_.multiProcessorCount, properties_.major, properties_.minor,
        GiB(memory.total), GiB(memory.free), driver / 1000, driver % 1000 / 10, FULGER_CUDA_ARCHITECTURES,
        context_.matmul == nullptr ? std::string("own kernels") : "cuBLASLt " + context_.matmul->version());
  }
  Stream& stream() override { return stream_; }
  Ops& ops() override { return ops_; }

  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    CUDA_RETURN_IF_ERROR(cudaSetDevice(context_.ordinal));
    void* p = nullptr;
    const cudaError_t error = cudaMalloc(&p, bytes == 0 ? 1 : bytes);
    if (error == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());
      size_t free_bytes = 0;
      size_t total_bytes = 0;
      CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
      return ResourceExhausted("{}: {} bytes asked for, {} of {} bytes of memory are free", name(), bytes,
                               free_bytes, total_bytes);
    }
    RETURN_IF_ERROR(ToStatus(error, "cudaMalloc"));
    return Buffer(p, bytes, [](void* memory) { static_cast<void>(cudaFree(memory)); });
  }
  absl::Status CopyToDevice(Stream&, const void* host, void* device, size_t bytes) override {
    CUDA_RETURN_IF_ERROR(cudaSetDevice(context_.ordinal));
    return context_.staging.Upload(context_.stream.get(), host, device, bytes);
  }
  // Into pageable memory: the runtime returns when the bytes are there.
  absl::Status CopyToHost(Stream&, const void* device, void* host, size_t bytes) override {
    return CopyAsync(device, host, bytes, cudaMemcpyDeviceToHost);
  }
  absl::Status Copy(Stream&, const void* from, void* to, size_t bytes) override {
    return CopyAsync(from, to, bytes, cudaMemcpyDeviceToDevice);
  }
  absl::Status Zero(Stream&, void* device, size_t bytes) override {
    if (bytes == 0) return absl::OkStatus();
    CUDA_RETURN_IF_ERROR(cudaSetDevice(context_.ordinal));
    return ToStatus(cudaMemsetAsync(device, 0, bytes, context_.stream.get()), "cudaMemsetAsync");
  }
  bool host_accessible() const override { return false; }
  bool holds(const void* p) const override {
    cudaPointerAttributes attributes{};
    const cudaError_t error = cudaPointerGetAttributes(&attributes, p);
    if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
    return error == cudaSuccess && attributes.type == cudaMemoryTypeDevice;
  }

 private:
  CudaDevice() : stream_(context_), ops_(context_) {}

  absl::Status CopyAsync(const void* from, void* to, size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return absl::OkStatus();
    CUDA_RETURN_IF_ERROR(cudaSetDevice(context_.ordinal));
    return ToStatus(cudaMemcpyAsync(to, from, bytes, kind, context_.stream.get()), "cudaMemcpyAsync");
  }

  CudaContext context_;
  cudaDeviceProp properties_{};
  int64_t own_bytes_ = 0;  // that TakeResources took
  CudaStream stream_;
  CudaOps ops_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int ordinal, const DeviceOptions& options) {
  auto device = CudaDevice::Make(ordinal, options);
  if (!device.ok()) return Annotate(device.status(), fmt::format("device cuda:{}", ordinal));
  return device;
}

}  // namespace fulger
