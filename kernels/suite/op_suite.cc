#include "kernels/suite/op_suite.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/bfloat16.h"

namespace fulger {
namespace {

constexpr size_t kGuard = 256;  // bytes; keeps the payload 64-byte aligned
constexpr uint8_t kSentinel = 0xA5;

uint64_t SuiteSeed() {
  static const uint64_t seed = [] {
    const char* fixed = std::getenv("FULGER_TEST_SEED");
    const uint64_t s = fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : std::random_device{}();
    std::printf("FULGER_TEST_SEED=%llu\n", static_cast<unsigned long long>(s));
    return s;
  }();
  return seed;
}

double Decode(DType dtype, const uint8_t* p) {
  switch (dtype) {
    case DType::kF32: {
      float f;
      std::memcpy(&f, p, sizeof(f));
      return static_cast<double>(f);
    }
    case DType::kBF16: {
      uint16_t b;
      std::memcpy(&b, p, sizeof(b));
      return static_cast<double>(BF16ToFloat(b));
    }
    case DType::kI32: {
      int32_t i;
      std::memcpy(&i, p, sizeof(i));
      return i;
    }
    case DType::kI8:
      return static_cast<int8_t>(*p);
    default:
      return *p;  // kU8
  }
}

void Encode(DType dtype, double value, uint8_t* p) {
  switch (dtype) {
    case DType::kF32: {
      const auto f = static_cast<float>(value);
      std::memcpy(p, &f, sizeof(f));
      break;
    }
    case DType::kBF16: {
      const uint16_t b = FloatToBF16(static_cast<float>(value));
      std::memcpy(p, &b, sizeof(b));
      break;
    }
    case DType::kI32: {
      const auto i = static_cast<int32_t>(value);
      std::memcpy(p, &i, sizeof(i));
      break;
    }
    case DType::kI8:
      *p = static_cast<uint8_t>(static_cast<int8_t>(value));
      break;
    default:
      *p = static_cast<uint8_t>(value);
  }
}

std::string Coordinates(const Shape& shape, size_t index) {
  std::string s;
  for (size_t i = shape.size(); i-- > 0;) {
    const auto extent = static_cast<size_t>(shape[i]);
    s = std::to_string(index % extent) + (s.empty() ? "" : ", ") + s;
    index /= extent;
  }
  return "[" + s + "]";
}

}  // namespace

double SumBound(int64_t n) { return (2 * std::sqrt(static_cast<double>(n)) + 8) * kEps; }

int64_t Elements(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

Operand::Operand(Device& device, DType dtype, Shape shape, int64_t row_gap)
    : device_(&device), dtype_(dtype), shape_(std::move(shape)), row_gap_(row_gap) {
  const size_t payload = static_cast<size_t>(Rows() * (RowElements() + row_gap_)) * ByteSize(dtype_);
  image_.assign(payload + 2 * kGuard, kSentinel);
  // Gaps hold NaN (0xFF..): reading one poisons the result, writing one is seen in Download.
  std::memset(image_.data() + kGuard, 0xFF, payload);
  values_.assign(static_cast<size_t>(Elements(shape_)), std::numeric_limits<double>::quiet_NaN());
  auto buffer = device.Allocate(image_.size());
  FULGER_CHECK(buffer.ok(), "{}", buffer.status().ToString());
  buffer_ = std::move(buffer).value();
  Write();
}

int64_t Operand::Rows() const { return shape_.empty() ? 1 : shape_[0]; }
int64_t Operand::RowElements() const {
  int64_t n = 1;
  for (size_t i = 1; i < shape_.size(); ++i) n *= shape_[i];
  return n;
}
size_t Operand::Offset(int64_t row, int64_t column) const {
  return kGuard + static_cast<size_t>(row * (RowElements() + row_gap_) + column) * ByteSize(dtype_);
}

void Operand::Write() {
  ASSERT_OK(device_->CopyToDevice(device_->stream(), image_.data(), buffer_.data(), image_.size()));
  ASSERT_OK(device_->stream().Synchronize());
}

void Operand::Upload(const Values& values) {
  FULGER_CHECK(values.size() == values_.size());
  const int64_t columns = RowElements();
  for (size_t i = 0; i < values.size(); ++i) {
    uint8_t* p = image_.data() + Offset(static_cast<int64_t>(i) / columns, static_cast<int64_t>(i) % columns);
    Encode(dtype_, values[i], p);
    values_[i] = Decode(dtype_, p);
  }
  Write();
}

Values Operand::Download() const {
  std::vector<uint8_t> now(image_.size());
  EXPECT_OK(device_->stream().Synchronize());
  EXPECT_OK(device_->CopyToHost(device_->stream(), buffer_.data(), now.data(), now.size()));
  EXPECT_OK(device_->stream().Synchronize());
  Values out(values_.size());
  const int64_t columns = RowElements();
  std::vector<bool> payload(now.size(), false);
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t at = Offset(static_cast<int64_t>(i) / columns, static_cast<int64_t>(i) % columns);
    out[i] = Decode(dtype_, now.data() + at);
    for (size_t b = 0; b < ByteSize(dtype_); ++b) payload[at + b] = true;
  }
  for (size_t b = 0; b < now.size(); ++b) {
    if (payload[b] || now[b] == image_[b]) continue;
    ADD_FAILURE() << "wrote outside of " << view().ToString() << ": byte "
                  << static_cast<int64_t>(b) - static_cast<int64_t>(kGuard) << " from its start";
    break;
  }
  return out;
}

MutTensorView Operand::mut() const {
  void* p = static_cast<char*>(buffer_.data()) + kGuard;
  const Shape& s = shape_;
  MutTensorView v;
  switch (s.size()) {
    case 1:
      v = MutTensorView(p, dtype_, {s[0]});
      break;
    case 2:
      v = MutTensorView(p, dtype_, {s[0], s[1]});
      break;
    case 3:
      v = MutTensorView(p, dtype_, {s[0], s[1], s[2]});
      break;
    default:
      v = MutTensorView(p, dtype_, {s[0], s[1], s[2], s[3]});
  }
  return row_gap_ == 0 ? v : v.WithRowStride(RowElements() + row_gap_);
}

void OpSuite::SetUp() {
  auto device = MakeDevice(GetParam().spec, GetParam().options);
  ASSERT_TRUE(device.ok()) << device.status().ToString();
  device_ = std::move(device).value();
  const std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
  rng_.seed(SuiteSeed() ^ std::hash<std::string>{}(name));
}

Values OpSuite::Random(int64_t n, double scale) {
  std::normal_distribution<double> normal(0.0, scale);
  Values v(static_cast<size_t>(n));
  for (double& x : v) {
    x = normal(rng_);
    if (rng_() % 97 == 0) x *= 8;
  }
  return v;
}

Operand OpSuite::Input(DType dtype, const Shape& shape, double scale, int64_t row_gap) {
  return InputOf(dtype, shape, Random(Elements(shape), scale), row_gap);
}
Operand OpSuite::InputOf(DType dtype, const Shape& shape, const Values& values, int64_t row_gap) {
  Operand o(*device_, dtype, shape, row_gap);
  o.Upload(values);
  return o;
}
Weight OpSuite::WeightOf(DType dtype, const Shape& shape, double scale, int64_t row_gap) {
  Weight weight;
  if (dtype != DType::kI8) {
    weight.w = Input(dtype, shape, scale, row_gap);
    weight.values = weight.w.values();
    return weight;
  }
  Values integers(static_cast<size_t>(Elements(shape)));
  for (double& v : integers) v = static_cast<double>(Pick(-127, 127));
  weight.w = InputOf(dtype, shape, integers, row_gap);
  weight.scale = Input(DType::kF32, Shape(shape.begin(), shape.end() - 1), scale / 64);
  for (size_t i = 0; i < integers.size(); ++i) {
    weight.values.push_back(integers[i] * weight.scale.values()[i / static_cast<size_t>(shape.back())]);
  }
  return weight;
}
bool OpSuite::LacksInt8(DType w_type, const absl::Status& status) {
  if (w_type != DType::kI8 || !absl::IsUnimplemented(status)) return false;
  std::printf("NOT TESTED: %s\n", Message(status).c_str());
  return true;
}
Operand OpSuite::Output(DType dtype, const Shape& shape, int64_t row_gap) {
  return Operand(*device_, dtype, shape, row_gap);
}
int64_t OpSuite::Pick(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(rng_);
}

testing::AssertionResult OpSuite::SameRows(DType w_type, const Shape& shape, const Values& got,
                                           const Values& want, const std::function<double(size_t)>& bound) {
  if (GetParam().bits == RowBits::kAlways || w_type == DType::kF32) return Same(shape, got, want);
  return Near(shape, got, want, [&](size_t i) { return 2 * bound(i); });
}

testing::AssertionResult Near(const Shape& shape, const Values& got, const Values& want,
                              const std::function<double(size_t)>& bound) {
  if (got.size() != want.size()) {
    return testing::AssertionFailure() << got.size() << " elements, expected " << want.size();
  }
  size_t worst = got.size();
  size_t bad = 0;
  double worst_ratio = 1.0;
  for (size_t i = 0; i < got.size(); ++i) {
    if ((std::isnan(got[i]) && std::isnan(want[i])) || got[i] == want[i]) continue;
    double ratio = std::abs(got[i] - want[i]) / bound(i);
    if (std::isnan(ratio)) ratio = std::numeric_limits<double>::infinity();
    if (ratio <= 1.0) continue;
    ++bad;
    if (worst == got.size() || ratio > worst_ratio) {
      worst = i;
      worst_ratio = ratio;
    }
  }
  if (bad == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << bad << " of " << got.size() << " elements are off, the worst at "
                                     << Coordinates(shape, worst) << ": got " << got[worst] << ", expected "
                                     << want[worst] << " within " << bound(worst) << " (seed " << SuiteSeed()
                                     << ")";
}

testing::AssertionResult Same(const Shape& shape, const Values& got, const Values& want) {
  return Near(shape, got, want, [](size_t) { return 0.0; });
}

}  // namespace fulger
