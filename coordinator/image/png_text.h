// Internal to coordinator/image: the text chunks of a PNG that can hold an orientation (older ImageMagick and
// ExifTool wrote EXIF there, and XMP lives there).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fulger {

struct PngText {
  std::string_view key;
  std::string value;  // decompressed; empty where that fails or is over 1 MiB
};

// `type` is the chunk's name. Nothing unless it is tEXt, zTXt or iTXt with a key that matters to an
// orientation.
std::optional<PngText> ReadPngText(std::string_view type, std::string_view body);

// The bytes of a "Raw profile type" text: a name and a length on lines of their own, then hexadecimal.
std::string DecodeRawProfile(std::string_view text);

}  // namespace fulger
