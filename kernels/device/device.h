// A device: memory, one in-order stream of work, and the ops that run on it. The factory at the end is the
// only place that knows which backends exist.
//
// Threads: one thread (the rank's executor) uses a Device and everything made from it.
// Memory is allocated at load; a running step takes its temporaries from an Arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>

#include "base/status.h"
#include "kernels/tensor/tensor_view.h"

namespace fulger {

class Ops;

// In-order queue of work. On the CPU every operation has finished when its call returns.
class Stream {
 public:
  virtual ~Stream() = default;
  // Waits for everything enqueued; reports the first failure of the device, and what an op could not see when
  // it was called (an index out of range).
  virtual absl::Status Synchronize() = 0;
  // The cudaStream_t of a CUDA device's stream, for the transport that enqueues on it; null elsewhere.
  virtual void* native() { return nullptr; }
  // `check` is asked after each Synchronize, and its failure returned: how a transport that works on the
  // stream reports that what it put there failed. Setting it again replaces it. Nothing where work finishes
  // inside its call.
  virtual void OnSynchronize(std::function<absl::Status()> /*check*/) {}
};

// Owned device memory, 64-byte aligned at least. Freed with the object; the Device must outlive it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, size_t bytes, void (*free_fn)(void*)) : data_(data, free_fn), bytes_(bytes) {}
  void* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<void, void (*)(void*)> data_{nullptr, [](void*) {}};
  size_t bytes_ = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  // "cpu" or "cuda:N".
  virtual std::string name() const = 0;
  // One line for logs and /v1/server_info: model, threads, instruction set, memory.
  virtual std::string Describe() const = 0;
  // Names what decides the last bits of a result. Ranks of one replica must agree on it, or the ranks of a
  // stage could route a token to different experts. "cpu fma" (AVX2 and AVX-512, which agree in every bit) or
  // "cpu portable".
  virtual std::string Arithmetic() const = 0;
  virtual Stream& stream() = 0;
  virtual Ops& ops() = 0;
  // Uninitialised memory. RESOURCE_EXHAUSTED names the bytes asked for and those free.
  virtual absl::StatusOr<Buffer> Allocate(size_t bytes) = 0;
  // `host` may be reused when CopyToDevice returns; what CopyToHost reads is there after Synchronize.
  virtual absl::Status CopyToDevice(Stream& stream, const void* host, void* device, size_t bytes) = 0;
  virtual absl::Status CopyToHost(Stream& stream, const void* device, void* host, size_t bytes) = 0;
  virtual absl::Status Copy(Stream& stream, const void* from, void* to, size_t bytes) = 0;
  virtual absl::Status Zero(Stream& stream, void* device, size_t bytes) = 0;
  // True when host code may read and write device memory directly (CPU): copies can then be skipped.
  virtual bool host_accessible() const = 0;
  // True for memory that only this kind of device can read, whoever allocated it.
  virtual bool holds(const void* /*p*/) const { return false; }
};

struct DeviceOptions {
  int threads = 0;               // CPU: compute threads; 0: all cores of the process's affinity mask
  std::string kernels = "auto";  // CPU: avx512, avx2 or portable; auto: the first that this processor runs
  bool own_products = false;     // CUDA: never use cuBLASLt (tests compare the two)
};
// `spec`: "cpu", "cuda" or "cuda:N". A backend that is not built is FAILED_PRECONDITION, one without a usable
// device UNAVAILABLE, each with the cure; kernels that this build or this processor lacks are
// FAILED_PRECONDITION too.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const std::string& spec,
                                                   const DeviceOptions& options = {});

// Temporaries of one step: bump allocation out of one Buffer, all freed by Reset. Never grows during a step:
// exhaustion is our sizing bug and reported as INTERNAL with both numbers.
class Arena {
 public:
  static absl::StatusOr<Arena> Make(Device& device, size_t bytes);
  absl::StatusOr<MutTensorView> Allocate(DType dtype, std::initializer_list<int64_t> shape);
  void Reset() { used_ = 0; }
  size_t used() const { return used_; }
  size_t high_water() const { return high_water_; }
  size_t capacity() const { return buffer_.bytes(); }
  // Frees, in stack order, what was allocated since `mark` (a value of used()).
  void Rewind(size_t mark) { used_ = mark; }

 private:
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}
  Buffer buffer_;
  size_t used_ = 0;
  size_t high_water_ = 0;
};

}  // namespace fulger
