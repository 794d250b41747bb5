// Matrix products by cuBLASLt, loaded at run time: programs of this build start where the library is absent.
// Used for bfloat16 weights and many rows. One thread.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "base/status.h"

namespace fulger::cuda {

struct MatmulShape {
  int64_t rows, n, k;  // out [rows, n] = x [rows, k] w [n, k]^T, x contiguous
  int64_t ldw, ldo;
  bool accumulate;   // out += instead of out =
  bool aligned_out;  // out's rows are 16-byte aligned
  bool operator<(const MatmulShape& other) const;
};

class MatmulLt {
 public:
  // FAILED_PRECONDITION where the library cannot be loaded, with what the loader says.
  static absl::StatusOr<std::unique_ptr<MatmulLt>> Make();
  virtual ~MatmulLt() = default;
  // bfloat16 x and w, float32 out and accumulation. k and ldw are multiples of 8, pointers 16-byte aligned.
  // The first call of a shape asks the library's heuristic; its choice is kept.
  virtual absl::Status Multiply(cudaStream_t stream, const MatmulShape& shape, const void* x, const void* w,
                                float* out) = 0;
  virtual std::string version() const = 0;
};

}  // namespace fulger::cuda
