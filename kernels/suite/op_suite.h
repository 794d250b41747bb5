// The op suite: every case runs on every backend against a plain double-precision reference. A backend joins
// by one line in ops_test.cc. Inputs are fresh in each run; FULGER_TEST_SEED=N repeats one (the seed is
// printed).
//
// Memory that a case hands to an op is guarded: sentinels before and after, sentinels in the gaps between
// strided rows, NaN in every output before the call. A read outside shows as NaN, a write as a broken
// sentinel.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "kernels/device/device.h"
#include "kernels/ops/ops.h"
#include "tests/support/status_matchers.h"

namespace fulger {

using Values = std::vector<double>;  // a tensor's elements in row-major order
using Shape = std::vector<int64_t>;

constexpr double kEps = 1.0 / (1 << 23);  // of float32
// Rounding of a sum of n products, relative to the sum of their absolute values: a random walk of n half-ulp
// steps, with room for four deviations; every order of summation stays inside.
double SumBound(int64_t n);

// Where a backend promises that a row's bits do not depend on the other rows of a product.
enum class RowBits { kAlways, kFloat32Weights };

struct SuiteBackend {
  std::string name;  // as shown in test names
  std::string spec;
  DeviceOptions options;
  RowBits bits = RowBits::kAlways;
};
inline void PrintTo(const SuiteBackend& backend, std::ostream* out) { *out << backend.name; }

// A tensor in guarded device memory.
class Operand {
 public:
  Operand() = default;
  // row_gap: extra elements between rows of dimension 0.
  Operand(Device& device, DType dtype, Shape shape, int64_t row_gap);

  void Upload(const Values& values);  // rounds to the element type
  // What Upload stored, after rounding.
  const Values& values() const { return values_; }
  // Reads the elements back; reports broken sentinels as test failures.
  Values Download() const;

  TensorView view() const { return mut(); }
  MutTensorView mut() const;
  int64_t dim(size_t i) const { return shape_[i]; }
  const Shape& shape() const { return shape_; }

 private:
  void Write();
  int64_t Rows() const;
  int64_t RowElements() const;
  size_t Offset(int64_t row, int64_t column) const;  // in bytes into image_

  Device* device_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_;
  int64_t row_gap_ = 0;
  Buffer buffer_;
  std::vector<uint8_t> image_;  // the whole guarded memory as last written
  Values values_;
};

// A weight of any type that products take, and the numbers that it stands for.
struct Weight {
  Operand w;
  Operand scale;  // of a row (the last dimension); I8 only
  Values values;
  TensorView scale_view() const { return scale.shape().empty() ? TensorView() : scale.view(); }
};

class OpSuite : public testing::TestWithParam<SuiteBackend> {
 protected:
  void SetUp() override;

  Device& device() { return *device_; }
  Ops& ops() { return device_->ops(); }
  Stream& stream() { return device_->stream(); }
  std::mt19937_64& rng() { return rng_; }

  // Normal values times scale, with a few large ones so that a lost element shows.
  Values Random(int64_t n, double scale = 1.0);
  Operand Input(DType dtype, const Shape& shape, double scale = 1.0, int64_t row_gap = 0);
  Operand InputOf(DType dtype, const Shape& shape, const Values& values, int64_t row_gap = 0);
  // For I8: integers of the whole range, with scales that give values of about that size.
  Weight WeightOf(DType dtype, const Shape& shape, double scale = 1.0, int64_t row_gap = 0);
  // Poisoned: NaN, or -1 for integers.
  Operand Output(DType dtype, const Shape& shape, int64_t row_gap = 0);
  // An integer in [low, high].
  int64_t Pick(int64_t low, int64_t high);
  // The same rows computed in another batch, by products with weights of `w_type`: the same bits where the
  // backend promises them, else within `bound` (of one computation against the reference), twice.
  testing::AssertionResult SameRows(DType w_type, const Shape& shape, const Values& got, const Values& want,
                                    const std::function<double(size_t)>& bound);
  // Tells loudly that the backend does not have int8 products yet.
  static bool LacksInt8(DType w_type, const absl::Status& status);
  // `status`, or what the stream reports when the work is done: some backends see a wrong index only then.
  absl::Status Finished(absl::Status status) { return status.ok() ? stream().Synchronize() : status; }

 private:
  std::unique_ptr<Device> device_;
  std::mt19937_64 rng_;
};

// |got - want| <= bound(i) for every element; both NaN counts as equal. Names the worst element's
// coordinates.
testing::AssertionResult Near(const Shape& shape, const Values& got, const Values& want,
                              const std::function<double(size_t)>& bound);
// The same bits (as values), element by element.
testing::AssertionResult Same(const Shape& shape, const Values& got, const Values& want);

int64_t Elements(const Shape& shape);

}  // namespace fulger
