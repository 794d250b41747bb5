// Checks views against shapes with symbolic dimensions: the first operand that uses a Dim binds it, later
// ones must agree. The first violation is kept; nothing is allocated unless there is one.
//
//   Dim t{"T"}, h{"H"};
//   ArgChecker c("Gelu");
//   c.Check("x", args.x, {&t, &h}, ArgChecker::kF32);
//   return c.status();
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "base/status.h"
#include "kernels/tensor/tensor_view.h"

namespace fulger {

struct Dim {
  const char* name;
  int64_t value = -1;  // -1: not bound yet
};

class ArgChecker {
 public:
  enum Types : unsigned { kF32 = 1, kBF16 = 2, kI32 = 4, kU8 = 8, kI8 = 16, kWeight = kF32 | kBF16 };
  // What must be contiguous: everything, all dimensions but the first, or the last alone.
  enum Layout { kContiguous, kRowsStrided, kLastContiguous };

  explicit ArgChecker(std::string_view op) : op_(op) {}

  void Check(std::string_view operand, const TensorView& view, std::initializer_list<Dim*> shape,
             unsigned types, Layout layout = kContiguous) {
    if (!status_.ok()) return;
    if (!Matches(view, shape, types)) {
      status_ =
          InvalidArgument("{}: {}: expected {}, got {}", op_, operand, Wanted(shape, types), view.ToString());
    } else if (!HasLayout(view, layout)) {
      status_ = InvalidArgument("{}: {} {}: expected {}", op_, operand, view.ToString(), LayoutName(layout));
    } else if (view.raw() == nullptr && view.elements() > 0) {
      status_ = InvalidArgument("{}: {} {}: the pointer is null", op_, operand, view.ToString());
    }
  }
  // An absent optional operand is fine.
  void CheckOptional(std::string_view operand, const TensorView& view, std::initializer_list<Dim*> shape,
                     unsigned types) {
    if (!view.empty_view()) Check(operand, view, shape, types);
  }
  template <typename... Args>
  void Require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
    if (status_.ok() && !condition) {
      status_ = InvalidArgument("{}: {}", op_, fmt::format(format, std::forward<Args>(args)...));
    }
  }
  bool ok() const { return status_.ok(); }
  absl::Status status() const { return status_; }

 private:
  static unsigned TypeBit(DType dtype) {
    switch (dtype) {
      case DType::kF32:
        return kF32;
      case DType::kBF16:
        return kBF16;
      case DType::kI32:
        return kI32;
      case DType::kU8:
        return kU8;
      case DType::kI8:
        return kI8;
      default:
        return 0;
    }
  }
  static bool Matches(const TensorView& view, std::initializer_list<Dim*> shape, unsigned types) {
    if (view.rank() != static_cast<int>(shape.size()) || (TypeBit(view.dtype()) & types) == 0) return false;
    int i = 0;
    for (Dim* dim : shape) {
      const int64_t have = view.dim(i++);
      if (dim->value < 0) {
        dim->value = have;
      } else if (dim->value != have) {
        return false;
      }
    }
    return true;
  }
  static bool HasLayout(const TensorView& view, Layout layout) {
    if (layout == kContiguous) return view.contiguous() || view.elements() == 0;
    const int last = view.rank() - 1;
    int64_t want = 1;
    for (int i = last; i >= (layout == kRowsStrided ? 1 : last); --i) {
      if (view.dim(i) > 1 && view.stride(i) != want) return false;
      want *= view.dim(i);
    }
    return true;
  }
  static std::string_view LayoutName(Layout layout) {
    switch (layout) {
      case kContiguous:
        return "a contiguous tensor";
      case kRowsStrided:
        return "contiguous rows (only the first dimension may be strided)";
      case kLastContiguous:
        return "a contiguous last dimension";
    }
    return "";
  }
  static std::string Wanted(std::initializer_list<Dim*> shape, unsigned types) {
    std::string s = "[";
    for (const Dim* dim : shape) {
      if (s.size() > 1) s += ", ";
      s += dim->value < 0 ? dim->name : fmt::format("{}={}", dim->name, dim->value);
    }
    s += "]";
    char separator = ' ';
    for (DType d : {DType::kF32, DType::kBF16, DType::kI32, DType::kU8, DType::kI8}) {
      if ((TypeBit(d) & types) == 0) continue;
      s += separator + std::string(Name(d));
      separator = '|';
    }
    return s;
  }

  std::string_view op_;
  absl::Status status_;
};

}  // namespace fulger
