// The parts of a multipart/form-data body, as uploads come.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

struct FormPart {
  std::string name;
  std::string filename;
  std::string_view content;  // into the body
};

// INVALID_ARGUMENT: another content type, no boundary, or a part that does not end.
absl::StatusOr<std::vector<FormPart>> ParseMultipart(std::string_view content_type, std::string_view body);

}  // namespace fulger
