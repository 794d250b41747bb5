#include "kernels/cuda/matmul_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <map>
#include <tuple>

#include "kernels/cuda/cuda_handles.h"

namespace fulger::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr size_t kMaxChoices = 4096;

// The functions we call, by the types of the header.
struct Library {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) get_version = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
};

absl::Status Load(Library& library) {
  const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
  void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return FailedPrecondition(
        "{}: {}; install CUDA {}'s cuBLAS, or put the folder that holds it into LD_LIBRARY_PATH", name,
        dlerror(), CUBLAS_VER_MAJOR);
  }
  // Never closed: other libraries of the process may use it too.
  absl::Status status;
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, symbol));
    if (function == nullptr && status.ok()) status = FailedPrecondition("{}: it has no {}", name, symbol);
  };
  find(library.create, "cublasLtCreate");
  find(library.destroy, "cublasLtDestroy");
  find(library.get_version, "cublasLtGetVersion");
  find(library.desc_create, "cublasLtMatmulDescCreate");
  find(library.desc_destroy, "cublasLtMatmulDescDestroy");
  find(library.desc_set, "cublasLtMatmulDescSetAttribute");
  find(library.layout_create, "cublasLtMatrixLayoutCreate");
  find(library.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(library.preference_create, "cublasLtMatmulPreferenceCreate");
  find(library.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(library.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(library.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(library.matmul, "cublasLtMatmul");
  return status;
}

absl::Status Check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  if (status == CUBLAS_STATUS_NOT_INITIALIZED) {
    return Unavailable("{}: cuBLASLt found no usable GPU (status {})", call, static_cast<int>(status));
  }
  return Internal("{}: cuBLASLt status {}", call, static_cast<int>(status));
}

// Column-major, as the library thinks: out^T [n x rows] = w^T-stored-as [k x n], transposed, times x^T [k x
// rows].
struct Descriptors {
  const Library* library;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, out = nullptr;

  explicit Descriptors(const Library& l) : library(&l) {}
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  ~Descriptors() {
    if (operation != nullptr) library->desc_destroy(operation);
    for (cublasLtMatrixLayout_t layout : {w, x, out}) {
      if (layout != nullptr) library->layout_destroy(layout);
    }
  }
  absl::Status Make(const MatmulShape& s) {
    RETURN_IF_ERROR(
        Check(library->desc_create(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate"));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    RETURN_IF_ERROR(
        Check(library->desc_set(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
              "TRANSA"));
    const auto n = static_cast<uint64_t>(s.n);
    const auto k = static_cast<uint64_t>(s.k);
    const auto rows = static_cast<uint64_t>(s.rows);
    RETURN_IF_ERROR(Check(library->layout_create(&w, CUDA_R_16BF, k, n, s.ldw), "layout of w"));
    RETURN_IF_ERROR(Check(library->layout_create(&x, CUDA_R_16BF, k, rows, s.k), "layout of x"));
    return Check(library->layout_create(&out, CUDA_R_32F, n, rows, s.ldo), "layout of out");
  }
};

struct Choice {
  std::unique_ptr<Descriptors> descriptors;
  cublasLtMatmulAlgo_t algorithm;
};

class Lt final : public MatmulLt {
 public:
  explicit Lt(const Library& library) : library_(library) {}
  ~Lt() override {
    choices_.clear();
    if (handle_ != nullptr) library_.destroy(handle_);
  }
  absl::Status Initialise() {
    RETURN_IF_ERROR(Check(library_.create(&handle_), "cublasLtCreate"));
    ASSIGN_OR_RETURN(workspace_, MakeDeviceMemory(kWorkspaceBytes));
    return absl::OkStatus();
  }

  absl::Status Multiply(cudaStream_t stream, const MatmulShape& shape, const void* x, const void* w,
                        float* out) override {
    ASSIGN_OR_RETURN(const Choice* const choice, Choose(shape));
    const float alpha = 1;
    const float beta = shape.accumulate ? 1.0F : 0.0F;
    const Descriptors& d = *choice->descriptors;
    return Check(library_.matmul(handle_, d.operation, &alpha, w, d.w, x, d.x, &beta, out, d.out, out, d.out,
                                 &choice->algorithm, workspace_.get(), kWorkspaceBytes, stream),
                 "cublasLtMatmul");
  }

  std::string version() const override { return std::to_string(library_.get_version()); }

 private:
  absl::StatusOr<const Choice*> Choose(const MatmulShape& shape) {
    const auto found = choices_.find(shape);
    if (found != choices_.end()) return &found->second;
    if (choices_.size() >= kMaxChoices) choices_.clear();
    Choice choice;
    choice.descriptors = std::make_unique<Descriptors>(library_);
    RETURN_IF_ERROR(choice.descriptors->Make(shape));
    cublasLtMatmulPreference_t preference = nullptr;
    RETURN_IF_ERROR(Check(library_.preference_create(&preference), "cublasLtMatmulPreferenceCreate"));
    const size_t workspace = kWorkspaceBytes;
    const cublasStatus_t set = library_.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                       &workspace, sizeof(workspace));
    const uint32_t wide = 16;
    const uint32_t narrow = shape.aligned_out ? 16 : 4;
    library_.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &wide, sizeof(wide));
    library_.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &wide, sizeof(wide));
    library_.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &narrow, sizeof(narrow));
    library_.preference_set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &narrow, sizeof(narrow));
    cublasLtMatmulHeuristicResult_t result{};
    int returned = 0;
    const Descriptors& d = *choice.descriptors;
    const cublasStatus_t asked = set != CUBLAS_STATUS_SUCCESS
                                     ? set
                                     : library_.heuristic(handle_, d.operation, d.w, d.x, d.out, d.out,
                                                          preference, 1, &result, &returned);
    library_.preference_destroy(preference);
    RETURN_IF_ERROR(Check(asked, "cublasLtMatmulAlgoGetHeuristic"));
    if (returned == 0) {
      return Internal("cuBLASLt has no algorithm for bfloat16 [{}, {}] x [{}, {}]^T (ldw {}, ldo {})",
                      shape.rows, shape.k, shape.n, shape.k, shape.ldw, shape.ldo);
    }
    choice.algorithm = result.algo;
    return &choices_.emplace(shape, std::move(choice)).first->second;
  }

  const Library library_;
  cublasLtHandle_t handle_ = nullptr;
  UniqueDeviceMemory workspace_;
  std::map<MatmulShape, Choice> choices_;
};

}  // namespace

bool MatmulShape::operator<(const MatmulShape& o) const {
  return std::tie(rows, n, k, ldw, ldo, accumulate, aligned_out) <
         std::tie(o.rows, o.n, o.k, o.ldw, o.ldo, o.accumulate, o.aligned_out);
}

absl::StatusOr<std::unique_ptr<MatmulLt>> MatmulLt::Make() {
  Library library;
  RETURN_IF_ERROR(Load(library));
  auto lt = std::make_unique<Lt>(library);
  RETURN_IF_ERROR(lt->Initialise());
  return lt;
}

}  // namespace fulger::cuda
