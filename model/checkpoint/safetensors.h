// One safetensors file: 8 bytes of header length, a JSON header, the tensors' bytes.
//
// Open reads and checks the header only, as strictly as the format is defined: every byte of the data belongs
// to exactly one tensor, no holes, no overlaps, sizes agree with shapes. It never trusts a number from the
// file before it is checked against the file's size. Errors name file, tensor, expected and found.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/status.h"

namespace fulger {

struct StoredTensor {
  std::string name;
  std::string dtype_name;      // as spelled in the file: "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  // absent for types that this program never computes with
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // absolute offset in the file
  uint64_t end = 0;

  uint64_t bytes() const { return end - begin; }
};

// Immutable after Open; ReadAt from any thread.
class SafetensorsFile {
 public:
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const File& file() const { return file_; }
  // In the order of their bytes.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor* Find(std::string_view name) const;  // nullptr: not here
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // SHA-256 of the header's bytes.
  const std::string& header_hash() const { return header_hash_; }

 private:
  explicit SafetensorsFile(File file) : file_(std::move(file)) {}

  File file_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::map<std::string, std::string> metadata_;
  std::string header_hash_;
};

}  // namespace fulger
