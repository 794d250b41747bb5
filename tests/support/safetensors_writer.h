// Writes safetensors files and small checkpoint folders for tests: good ones, and files broken on purpose.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace fulger::testing_support {

// A folder of its own under the test's temporary directory, empty at first and removed with the object.
class TempFolder {
 public:
  explicit TempFolder(std::string_view name);
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string File(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

void WriteBytes(const std::string& path, std::string_view bytes);

struct TensorToWrite {
  std::string name;
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;  // F32, BF16, F16 (values must be exact in it) or U8
  std::vector<float> values;
};

// The whole file: header length, header, data in the given order.
std::string SafetensorsBytes(const std::vector<TensorToWrite>& tensors);
// A file from a header and data that need not agree. `stated_length` overrides the header length.
std::string RawSafetensors(std::string_view header, std::string_view data);
std::string RawSafetensors(std::string_view header, std::string_view data, uint64_t stated_length);

void WriteSafetensors(const std::string& path, const std::vector<TensorToWrite>& tensors);
// model-00001-of-N.safetensors ... with model.safetensors.index.json; tensors are dealt out in turn.
void WriteSharded(const std::string& dir, const std::vector<TensorToWrite>& tensors, int shards);

// A number that tells tensor and element apart, exact in F32, BF16 and F16: element i of tensor `name`.
float DistinctValue(std::string_view name, int64_t i);
// A tensor filled with DistinctValue of its own name.
TensorToWrite Distinct(std::string name, std::vector<int64_t> shape, DType dtype);

}  // namespace fulger::testing_support
