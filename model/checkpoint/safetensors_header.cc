#include "model/checkpoint/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

namespace fulger {
namespace {

constexpr size_t kMostDimensions = 16;

// Receives the parser's events. Levels: 1 the file's object, 2 a tensor's (or the metadata) object, 3 a list.
class HeaderSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  absl::Status status() const { return status_; }
  SafetensorsHeader Take() { return std::move(header_); }

  bool start_object(std::size_t) override {
    if (level_ == 0) {
      level_ = 1;
      return true;
    }
    if (level_ != 1) return Unexpected("an object");
    level_ = 2;
    in_metadata_ = name_ == "__metadata__";
    seen_.clear();
    if (!in_metadata_) header_.tensors.emplace_back().name = name_;
    return true;
  }

  bool end_object() override {
    if (level_ == 2 && !in_metadata_) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        if (!seen_.contains(field)) return Fail(InvalidArgument("tensor {}: no {}", name_, field));
      }
    }
    --level_;
    return true;
  }

  bool key(string_t& key) override {
    if (level_ == 1) {
      name_ = key;
      if (!names_.insert(key).second) return Fail(InvalidArgument("tensor {}: named twice", key));
      return true;
    }
    field_ = key;
    if (!seen_.insert(key).second) return Fail(InvalidArgument("tensor {}: {} twice", name_, key));
    if (in_metadata_ || key == "dtype" || key == "shape" || key == "data_offsets") return true;
    return Fail(
        InvalidArgument("tensor {}: expected dtype, shape and data_offsets, found the key {}", name_, key));
  }

  bool string(string_t& value) override {
    if (level_ != 2) return Unexpected("a string");
    if (in_metadata_) {
      header_.metadata[field_] = value;
      return true;
    }
    if (field_ != "dtype") return Unexpected("a string");
    if (SafetensorsElementBits(value) == 0) {
      return Fail(InvalidArgument("tensor {}: unknown dtype {}", name_, value));
    }
    header_.tensors.back().dtype_name = value;
    header_.tensors.back().dtype = DTypeFromName(value);
    return true;
  }

  bool start_array(std::size_t) override {
    if (level_ != 2 || in_metadata_ || field_ == "dtype") return Unexpected("a list");
    level_ = 3;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    level_ = 2;
    StoredTensor& tensor = header_.tensors.back();
    if (field_ == "shape") {
      tensor.shape = numbers_;
      return true;
    }
    if (numbers_.size() != 2) {
      return Fail(
          InvalidArgument("tensor {}: data_offsets: expected 2 numbers, found {}", name_, numbers_.size()));
    }
    tensor.begin = static_cast<uint64_t>(numbers_[0]);
    tensor.end = static_cast<uint64_t>(numbers_[1]);
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (level_ != 3) return Unexpected("a number");
    if (value > static_cast<uint64_t>(INT64_MAX)) return Unexpected("a number beyond 63 bits");
    if (numbers_.size() == kMostDimensions) return Unexpected("more than 16 numbers");
    numbers_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool number_integer(number_integer_t) override { return Unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return Unexpected("a fraction"); }
  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool binary(binary_t&) override { return Unexpected("binary"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    return Fail(InvalidArgument("header: expected JSON, at byte {}: {}", position, e.what()));
  }

 private:
  bool Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
    return false;
  }
  bool Unexpected(std::string_view found) {
    if (level_ == 0) return Fail(InvalidArgument("header: expected an object, found {}", found));
    const std::string where = level_ == 1 ? name_ : name_ + " " + field_;
    return Fail(InvalidArgument("tensor {}: found {}", where, found));
  }

  SafetensorsHeader header_;
  absl::Status status_;
  int level_ = 0;
  bool in_metadata_ = false;
  std::string name_, field_;
  std::set<std::string> names_, seen_;
  std::vector<int64_t> numbers_;
};

}  // namespace

uint64_t SafetensorsElementBits(std::string_view dtype_name) {
  static const std::map<std::string_view, uint64_t> kBits = {
      {"BOOL", 8},        {"U8", 8},          {"I8", 8},    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
      {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"F4", 4},    {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"I16", 16},
      {"U16", 16},        {"F16", 16},        {"BF16", 16}, {"I32", 32},    {"U32", 32},    {"F32", 32},
      {"C64", 64},        {"F64", 64},        {"I64", 64},  {"U64", 64},
  };
  const auto it = kBits.find(dtype_name);
  return it == kBits.end() ? 0 : it->second;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json) {
  HeaderSax sax;
  try {
    nlohmann::json::sax_parse(json, &sax);
  } catch (const nlohmann::json::exception& e) {
    return InvalidArgument("header: expected JSON: {}", e.what());
  }
  RETURN_IF_ERROR(sax.status());
  return sax.Take();
}

}  // namespace fulger
