// Row by row: one block takes one row.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void AddScaledKernel(Rows a, float alpha, Rows b, float beta, MutRows out, int64_t width) {
  const int64_t t = blockIdx.x;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    out.p[t * out.ld + i] = fmaf(alpha, a.p[t * a.ld + i], beta * b.p[t * b.ld + i]);
  }
}

__global__ void ScaleByRmsKernel(MutRows x, const float* sumsq, int64_t sumsq_ld, int64_t norm_width,
                                 float eps, int64_t width) {
  const int64_t t = blockIdx.x;
  const double mean = static_cast<double>(sumsq[t * sumsq_ld]) / static_cast<double>(norm_width);
  const auto scale = static_cast<float>(1.0 / sqrt(mean + static_cast<double>(eps)));
  for (int64_t i = threadIdx.x; i < width; i += kThreads) x.p[t * x.ld + i] *= scale;
}

__global__ void GeluKernel(MutRows x, int64_t width) {
  float* row = x.p + static_cast<int64_t>(blockIdx.x) * x.ld;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) row[i] *= normcdff(row[i]);
}

__global__ void EmbeddingKernel(const int32_t* ids, Vector table, int64_t table_ld, int64_t first_row,
                                int64_t table_rows, MutRows out, int64_t width) {
  const int64_t t = blockIdx.x;
  const int64_t row = ids[t] - first_row;
  const bool held = row >= 0 && row < table_rows;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    out.p[t * out.ld + i] = held ? At(table, row * table_ld + i) : 0.0F;
  }
}

__device__ void Report(Fault* fault, int32_t code, int64_t at, int32_t value, int64_t low, int64_t high) {
  if (threadIdx.x != 0 || atomicCAS(&fault->code, static_cast<int32_t>(Fault::kNone), code) != Fault::kNone)
    return;
  fault->at = static_cast<int32_t>(at);
  fault->value = value;
  fault->low = static_cast<int32_t>(low);
  fault->high = static_cast<int32_t>(high);
}

__global__ void GatherKernel(Rows src, int64_t src_rows, const int32_t* index, Vector fill, MutRows out,
                             int64_t width, Fault* fault) {
  const int64_t t = blockIdx.x;
  const int64_t row = index[t];
  if (row < -1 || row >= src_rows) {
    Report(fault, Fault::kGather, t, index[t], -1, src_rows);
    return;
  }
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    float value = 0;
    if (row >= 0) {
      value = src.p[row * src.ld + i];
    } else if (fill.p != nullptr) {
      value = At(fill, i);
    }
    out.p[t * out.ld + i] = value;
  }
}

__global__ void ScatterKernel(Rows src, const int32_t* index, MutRows out, int64_t out_rows, int64_t width,
                              Fault* fault) {
  const int64_t t = blockIdx.x;
  const int64_t row = index[t];
  if (row < 0 || row >= out_rows) {
    Report(fault, Fault::kScatter, t, index[t], 0, out_rows);
    return;
  }
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    out.p[row * out.ld + i] = src.p[t * src.ld + i];
  }
}

__global__ void FillRowsKernel(Vector bias, MutRows out, int64_t width) {
  const int64_t t = blockIdx.x;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    out.p[t * out.ld + i] = bias.p == nullptr ? 0.0F : At(bias, i);
  }
}

unsigned Blocks(int64_t rows) { return static_cast<unsigned>(rows); }

}  // namespace

cudaError_t AddScaled(cudaStream_t stream, Rows a, float alpha, Rows b, float beta, MutRows out, int64_t rows,
                      int64_t width) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {Blocks(rows), kThreads}, AddScaledKernel, a, alpha, b, beta, out, width);
}

cudaError_t ScaleByRms(cudaStream_t stream, MutRows x, const float* sumsq, int64_t sumsq_ld,
                       int64_t norm_width, float eps, int64_t rows, int64_t width) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {Blocks(rows), kThreads}, ScaleByRmsKernel, x, sumsq, sumsq_ld, norm_width, eps,
                      width);
}

cudaError_t Gelu(cudaStream_t stream, MutRows x, int64_t rows, int64_t width) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {Blocks(rows), kThreads}, GeluKernel, x, width);
}

cudaError_t Embedding(cudaStream_t stream, const int32_t* ids, Vector table, int64_t table_ld,
                      int64_t first_row, int64_t table_rows, MutRows out, int64_t rows, int64_t width) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {Blocks(rows), kThreads}, EmbeddingKernel, ids, table, table_ld, first_row,
                      table_rows, out, width);
}

cudaError_t GatherRows(cudaStream_t stream, Rows src, int64_t src_rows, const int32_t* index, Vector fill,
                       MutRows out, int64_t rows, int64_t width, Fault* fault) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {Blocks(rows), kThreads}, GatherKernel, src, src_rows, index, fill, out, width,
                      fault);
}

cudaError_t ScatterRows(cudaStream_t stream, Rows src, const int32_t* index, MutRows out, int64_t out_rows,
                        int64_t rows, int64_t width, Fault* fault) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {Blocks(rows), kThreads}, ScatterKernel, src, index, out, out_rows, width,
                      fault);
}

cudaError_t FillRows(cudaStream_t stream, Vector bias, MutRows out, int64_t rows, int64_t width) {
  if (rows == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {Blocks(rows), kThreads}, FillRowsKernel, bias, out, width);
}

}  // namespace fulger::cuda
