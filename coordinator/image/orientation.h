// Internal to coordinator/image: which way up a picture was taken.
#pragma once

#include <optional>
#include <string_view>

#include "coordinator/image/rgb_image.h"

namespace fulger {

// Tag 0x0112 of the first directory of an EXIF block (a TIFF file, with or without "Exif\0\0" before it).
// Values outside of 1..8 count as 1; nothing where the block is unreadable or has no such tag.
std::optional<int> ExifOrientation(std::string_view exif);

// tiff:Orientation of an XMP packet; 1 where there is none.
int XmpOrientation(std::string_view xmp);

// Turns and mirrors `image` upright. `orientation` is 1..8; 5..8 swap the sides.
RgbImage ApplyOrientation(RgbImage image, int orientation);

}  // namespace fulger
