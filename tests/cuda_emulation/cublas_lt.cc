// A library with cuBLASLt's name and the functions of it that matmul_lt.cc loads: products of bfloat16 with
// float32 sums. It refuses what it was not told before: another shape than the heuristic was asked about,
// pointers less aligned than the preference says.
#include <cublasLt.h>

#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "tests/cuda_emulation/runtime.h"

namespace {

using fulger::cuda_emulation::CheckDeviceRange;

struct Operation {
  cublasOperation_t transa = CUBLAS_OP_N;
};
struct Layout {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t ld;
};
struct Preference {
  uint64_t workspace = 0;
  std::array<uint32_t, 4> alignment = {256, 256, 256,
                                       256};  // of a, b, c, d: as cuBLASLt assumes when not told
};
// What the heuristic leaves in cublasLtMatmulAlgo_t.
struct Algorithm {
  uint64_t magic;
  uint64_t workspace;
  std::array<uint32_t, 4> alignment;
  uint64_t m, n, k;
};
constexpr uint64_t kMagic = 0x46756c67;
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

template <typename T, typename Handle>
T& As(Handle handle) {
  return *reinterpret_cast<T*>(const_cast<void*>(static_cast<const void*>(handle)));
}
template <typename Handle, typename T>
cublasStatus_t Create(Handle* handle, const T& value) {
  *handle = reinterpret_cast<Handle>(new T(value));
  return CUBLAS_STATUS_SUCCESS;
}
template <typename T, typename Handle>
cublasStatus_t Destroy(Handle handle) {
  delete &As<T>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

float Widen(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float f;
  std::memcpy(&f, &word, sizeof(f));
  return f;
}

struct Product {
  const uint16_t* a;
  const uint16_t* b;
  float* d;
  int64_t lda, ldb, ldd, m, n, k;
  float alpha, beta;

  std::string operator()() const {
    std::string wrong = CheckDeviceRange("cublasLtMatmul, a", a, static_cast<size_t>((m - 1) * lda + k) * 2);
    if (wrong.empty())
      wrong = CheckDeviceRange("cublasLtMatmul, b", b, static_cast<size_t>((n - 1) * ldb + k) * 2);
    if (wrong.empty())
      wrong = CheckDeviceRange("cublasLtMatmul, d", d, static_cast<size_t>((n - 1) * ldd + m) * 4);
    if (!wrong.empty()) return wrong;
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t i = 0; i < m; ++i) {
        float sum = 0;
        for (int64_t x = 0; x < k; ++x) sum = std::fma(Widen(a[i * lda + x]), Widen(b[j * ldb + x]), sum);
        float& out = d[j * ldd + i];
        out = beta == 0 ? alpha * sum : alpha * sum + beta * out;
      }
    }
    return {};
  }
};

bool Aligned(const void* p, uint32_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return Create(handle, Operation{}); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return Destroy<Operation>(handle); }
size_t cublasLtGetVersion() { return 0; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  return Create(desc, Operation{});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return Destroy<Operation>(desc); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  if (attribute != CUBLASLT_MATMUL_DESC_TRANSA || bytes != sizeof(cublasOperation_t)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  std::memcpy(&As<Operation>(desc).transa, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  if (ld < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return Create(layout, Layout{type, rows, columns, ld});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return Destroy<Layout>(layout); }

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return Create(preference, Preference{});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return Destroy<Preference>(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  auto& p = As<Preference>(preference);
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    if (bytes != sizeof(p.workspace)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&p.workspace, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  }
  const int which = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
  if (which < 0 || which > 3 || bytes != sizeof(uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&p.alignment[static_cast<size_t>(which)], value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  const auto& la = As<Layout>(a);
  const auto& lb = As<Layout>(b);
  const auto& ld = As<Layout>(d);
  const auto& p = As<Preference>(preference);
  *returned = 0;
  if (wanted < 1 || c != d || As<Operation>(desc).transa != CUBLAS_OP_T || la.type != CUDA_R_16BF ||
      lb.type != CUDA_R_16BF || ld.type != CUDA_R_32F || la.rows != lb.rows || ld.rows != la.columns ||
      ld.columns != lb.columns) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  // A leading dimension that breaks the alignment promised for the columns behind the first.
  const auto keeps = [](int64_t elements, int64_t size, uint32_t alignment) {
    return elements * size % alignment == 0;
  };
  if (!keeps(la.ld, 2, p.alignment[0]) || !keeps(lb.ld, 2, p.alignment[1]) ||
      !keeps(ld.ld, 4, p.alignment[3])) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const Algorithm algorithm{kMagic, p.workspace, p.alignment, la.columns, lb.columns, la.rows};
  std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
  results[0].workspaceSize = 0;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  Algorithm algorithm;
  std::memcpy(&algorithm, algo, sizeof(algorithm));
  const auto& la = As<Layout>(a_layout);
  const auto& lb = As<Layout>(b_layout);
  const auto& ld = As<Layout>(d_layout);
  if (algorithm.magic != kMagic || algorithm.m != la.columns || algorithm.n != lb.columns ||
      algorithm.k != la.rows || c != d || workspace_bytes < algorithm.workspace || !Aligned(workspace, 256) ||
      !Aligned(a, algorithm.alignment[0]) || !Aligned(b, algorithm.alignment[1]) ||
      !Aligned(d, algorithm.alignment[3])) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Product product{.a = static_cast<const uint16_t*>(a),
                        .b = static_cast<const uint16_t*>(b),
                        .d = static_cast<float*>(d),
                        .lda = la.ld,
                        .ldb = lb.ld,
                        .ldd = ld.ld,
                        .m = static_cast<int64_t>(la.columns),
                        .n = static_cast<int64_t>(lb.columns),
                        .k = static_cast<int64_t>(la.rows),
                        .alpha = *static_cast<const float*>(alpha),
                        .beta = *static_cast<const float*>(beta)};
  return fulger::cuda_emulation::Enqueue(stream, product) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                         : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
