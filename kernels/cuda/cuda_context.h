// What the op files of one device share: the stream, staging, scratch memory, tables that a step uploads
// once, and the library's products. One thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/cuda_handles.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul_lt.h"
#include "kernels/cuda/staging.h"
#include "kernels/tensor/tensor_view.h"

namespace fulger::cuda {

// Grow-only device memory: the first step of a size allocates, its repetitions do not. Growing waits for the
// stream, because work in flight may use what is freed.
class DeviceScratch {
 public:
  // At least n elements of T, 256-byte aligned, uninitialised; valid until the next call.
  template <typename T>
  absl::StatusOr<T*> Get(cudaStream_t stream, int64_t n) {
    const size_t bytes = static_cast<size_t>(n > 0 ? n : 1) * sizeof(T);
    if (bytes > bytes_) RETURN_IF_ERROR(Grow(stream, bytes));
    return static_cast<T*>(memory_.get());
  }

 private:
  absl::Status Grow(cudaStream_t stream, size_t bytes);
  UniqueDeviceMemory memory_;
  size_t bytes_ = 0;
};

// A host table on the device. Put uploads only what differs from the last one: the layers of a step pass the
// same segments, so only the first of them pays.
class DeviceTable {
 public:
  template <typename T>
  absl::StatusOr<const T*> Put(cudaStream_t stream, Staging& staging, std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    ASSIGN_OR_RETURN(const void* p, PutBytes(stream, staging, values.data(), values.size_bytes()));
    return static_cast<const T*>(p);
  }

 private:
  absl::StatusOr<const void*> PutBytes(cudaStream_t stream, Staging& staging, const void* data, size_t bytes);
  std::vector<char> held_;
  DeviceScratch memory_;
};

struct CudaContext {
  int ordinal = 0;
  UniqueStream stream;
  Staging staging;
  std::unique_ptr<MatmulLt> matmul;  // null: own kernels only
  UniqueDeviceMemory fault;          // a Fault
  bool may_fault = false;            // an op that can report one ran since the last synchronisation

  DeviceScratch split_scratch, pair_scratch, index_scratch, attention_scratch, lightning_scratch;
  DeviceTable rope_rows, frequencies, attention_tiles, attention_merges, attention_blocks, lightning_tokens,
      lightning_chunks, lightning_runs;

  Fault* fault_memory() const { return static_cast<Fault*>(fault.get()); }
  // INVALID_ARGUMENT for the first index out of range since the last call; call after synchronising.
  absl::Status TakeFault();
};

inline Element ElementOf(const TensorView& v) {
  return v.dtype() == DType::kBF16 ? Element::kBF16 : Element::kF32;
}
inline Vector VectorOf(const TensorView& v) {
  return v.empty_view() ? Vector{} : Vector{v.raw(), ElementOf(v)};
}
inline Rows RowsOf(const TensorView& v) { return {v.data<float>(), v.stride(0)}; }
inline MutRows RowsOf(const MutTensorView& v) { return {v.mut_data<float>(), v.stride(0)}; }

}  // namespace fulger::cuda
