// Pictures inside requests: data:image/png;base64,....
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace fulger {

struct DataUrl {
  std::string media_type;  // lower case, "image/png"; a hint only: the decoder looks at the bytes
  std::string bytes;
};

bool IsDataUrl(std::string_view url);

// INVALID_ARGUMENT unless `url` is a base64 data URL of an image. The size is known from the length and
// checked against `max_bytes` before anything is decoded.
absl::StatusOr<DataUrl> ParseDataUrl(std::string_view url, uint64_t max_bytes);

// Strict base64 (RFC 4648 section 4): padded, no white space, no other alphabet, unused bits zero.
absl::StatusOr<std::string> DecodeBase64(std::string_view text);

}  // namespace fulger
