// The JSON header of a safetensors file, parsed without building a document. Internal to worker/weights.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/checkpoint/safetensors.h"

namespace fulger {

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // in the order of the header; offsets relative to the data
  std::map<std::string, std::string> metadata;
};

// Syntax, nesting, key names, duplicates, types of values, known dtypes. Offsets are checked by the caller,
// who knows the file's size.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json);

// Bits of one element, 0 for a dtype that the format does not know.
uint64_t SafetensorsElementBits(std::string_view dtype_name);

}  // namespace fulger
