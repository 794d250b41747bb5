// Views of tensors: a pointer, an element type, a shape and strides in elements. They own nothing and are
// cheap to copy. TensorView is read-only; MutTensorView may be written and converts to TensorView.
//
// At most four dimensions. data<T>() checks the element type: a wrong one is our bug, so it aborts.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "base/check.h"
#include "base/dtype.h"

namespace fulger {

template <typename T>
constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, uint16_t>) return DType::kBF16;  // raw bits
  if constexpr (std::is_same_v<T, int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kI64;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::kU8;
  if constexpr (std::is_same_v<T, int8_t>) return DType::kI8;
}

class TensorView {
 public:
  static constexpr int kMaxRank = 4;

  TensorView() = default;
  // Row-major contiguous.
  TensorView(const void* data, DType dtype, std::initializer_list<int64_t> shape)
      : data_(const_cast<void*>(data)), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
    FULGER_CHECK(rank_ <= kMaxRank);
    int i = 0;
    for (int64_t d : shape) shape_[static_cast<size_t>(i++)] = d;
    int64_t stride = 1;
    for (int k = rank_ - 1; k >= 0; --k) {
      strides_[static_cast<size_t>(k)] = stride;
      stride *= shape_[static_cast<size_t>(k)];
    }
  }

  bool empty_view() const { return rank_ == 0; }  // an absent optional tensor
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  int64_t dim(int i) const { return shape_[static_cast<size_t>(i)]; }
  int64_t stride(int i) const { return strides_[static_cast<size_t>(i)]; }
  int64_t elements() const {
    int64_t n = rank_ == 0 ? 0 : 1;
    for (int i = 0; i < rank_; ++i) n *= dim(i);
    return n;
  }
  int64_t bytes() const { return elements() * static_cast<int64_t>(ByteSize(dtype_)); }
  bool contiguous() const {
    int64_t stride_wanted = 1;
    for (int i = rank_ - 1; i >= 0; --i) {
      if (dim(i) != 1 && stride(i) != stride_wanted) return false;
      stride_wanted *= dim(i);
    }
    return true;
  }
  const void* raw() const { return data_; }

  template <typename T>
  const T* data() const {
    FULGER_CHECK(DTypeOf<T>() == dtype_, "view holds {}", Name(dtype_));
    return static_cast<const T*>(data_);
  }
  // First element of row i (dim 0).
  template <typename T>
  const T* row(int64_t i) const {
    return data<T>() + i * strides_[0];
  }

  // Elements [begin, begin + count) of dimension `dim`.
  TensorView Slice(int dim_index, int64_t begin, int64_t count) const {
    FULGER_CHECK(dim_index < rank_ && begin >= 0 && count >= 0 && begin + count <= dim(dim_index));
    TensorView v = *this;
    v.data_ = static_cast<char*>(data_) + begin * stride(dim_index) * static_cast<int64_t>(ByteSize(dtype_));
    v.shape_[static_cast<size_t>(dim_index)] = count;
    return v;
  }
  TensorView Rows(int64_t begin, int64_t count) const { return Slice(0, begin, count); }
  // Same elements, another shape; needs contiguity.
  TensorView Reshape(std::initializer_list<int64_t> shape) const {
    FULGER_CHECK(contiguous());
    TensorView v(data_, dtype_, shape);
    FULGER_CHECK(v.elements() == elements());
    return v;
  }
  // Same memory with an explicit stride of dimension 0 (rows of a wider matrix).
  TensorView WithRowStride(int64_t stride0) const {
    TensorView v = *this;
    v.strides_[0] = stride0;
    return v;
  }

  std::string ToString() const {
    std::string s = "[";
    for (int i = 0; i < rank_; ++i) s += (i == 0 ? "" : ", ") + std::to_string(dim(i));
    return s + "] " + std::string(Name(dtype_));
  }

 protected:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  int rank_ = 0;
  std::array<int64_t, kMaxRank> shape_{};
  std::array<int64_t, kMaxRank> strides_{};
};

class MutTensorView : public TensorView {
 public:
  MutTensorView() = default;
  MutTensorView(void* data, DType dtype, std::initializer_list<int64_t> shape)
      : TensorView(data, dtype, shape) {}

  void* mut_raw() const { return data_; }
  template <typename T>
  T* mut_data() const {
    FULGER_CHECK(DTypeOf<T>() == dtype_, "view holds {}", Name(dtype_));
    return static_cast<T*>(data_);
  }
  template <typename T>
  T* mut_row(int64_t i) const {
    return mut_data<T>() + i * strides_[0];
  }
  MutTensorView Slice(int dim_index, int64_t begin, int64_t count) const {
    return MutTensorView(TensorView::Slice(dim_index, begin, count));
  }
  MutTensorView Rows(int64_t begin, int64_t count) const { return Slice(0, begin, count); }
  MutTensorView Reshape(std::initializer_list<int64_t> shape) const {
    return MutTensorView(TensorView::Reshape(shape));
  }
  MutTensorView WithRowStride(int64_t stride0) const {
    return MutTensorView(TensorView::WithRowStride(stride0));
  }

 private:
  explicit MutTensorView(const TensorView& v) : TensorView(v) {}
};

}  // namespace fulger
