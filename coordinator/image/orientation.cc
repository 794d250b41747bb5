#include "coordinator/image/orientation.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "coordinator/image/byte_order.h"

namespace fulger {
namespace {

using namespace std::string_view_literals;

constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kShort = 3, kLong = 4, kSignedByte = 6, kSignedShort = 8, kSignedLong = 9;
constexpr size_t kEntryBytes = 12;

int Valid(uint32_t value) { return value >= 1 && value <= 8 ? static_cast<int>(value) : 1; }

// Integers of a TIFF file in its own byte order.
struct Tiff {
  std::string_view bytes;
  bool big = false;

  uint32_t U16(size_t at) const { return big ? Big16(bytes, at) : Little16(bytes, at); }
  uint32_t U32(size_t at) const { return big ? Big32(bytes, at) : Little32(bytes, at); }
};

int EntryValue(const Tiff& tiff, size_t entry) {
  const size_t value = entry + 8;
  if (tiff.U32(entry + 4) != 1) return 1;  // a list is no orientation
  switch (tiff.U16(entry + 2)) {
    case kShort:
    case kSignedShort:
      return Valid(tiff.U16(value));
    case kLong:
    case kSignedLong:
      return Valid(tiff.U32(value));
    case kSignedByte:
      return Valid(Byte(tiff.bytes, value));
    default:
      return 1;
  }
}

}  // namespace

std::optional<int> ExifOrientation(std::string_view exif) {
  constexpr std::string_view kPrefix = "Exif\0\0"sv;
  for (int i = 0; i < 2 && exif.starts_with(kPrefix); ++i) exif.remove_prefix(kPrefix.size());
  if (exif.size() < 8) return std::nullopt;
  Tiff tiff = {.bytes = exif};
  if (exif.starts_with("MM\0*"sv)) {
    tiff.big = true;
  } else if (!exif.starts_with("II*\0"sv)) {
    return std::nullopt;
  }
  const uint64_t directory = tiff.U32(4);
  if (directory + 2 > exif.size()) return std::nullopt;
  const uint32_t entries = tiff.U16(directory);
  std::optional<int> found;
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + kEntryBytes * i;
    if (entry + kEntryBytes > exif.size()) break;
    if (tiff.U16(entry) == kOrientationTag) found = EntryValue(tiff, entry);
  }
  return found;
}

int XmpOrientation(std::string_view xmp) {
  constexpr std::string_view kName = "tiff:Orientation";
  for (size_t at = xmp.find(kName); at != std::string_view::npos; at = xmp.find(kName, at + 1)) {
    std::string_view rest = xmp.substr(at + kName.size());
    if (rest.starts_with("=\"")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with('>')) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return Valid(static_cast<uint32_t>(rest[0] - '0'));
  }
  return 1;
}

RgbImage ApplyOrientation(RgbImage image, int orientation) {
  FULGER_CHECK(orientation >= 1 && orientation <= 8, "orientation {}", orientation);
  if (orientation == 1) return image;
  // Output (y, x) is input (row0 + y * row_y + x * row_x, ...): first whether axes swap, then which are
  // mirrored.
  const bool swap = orientation >= 5;
  const bool flip_rows = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool flip_cols = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const int height = image.size.height;
  const int width = image.size.width;
  RgbImage out(swap ? ImageSize{.height = width, .width = height} : image.size);
  const auto pixel = static_cast<ptrdiff_t>(RgbImage::kChannels);
  const auto row = static_cast<ptrdiff_t>(RgbImage::RowBytes(image.size));
  const ptrdiff_t row_step = flip_rows ? -row : row;
  const ptrdiff_t col_step = flip_cols ? -pixel : pixel;
  const uint8_t* origin =
      image.pixels.data() + (flip_rows ? row * (height - 1) : 0) + (flip_cols ? pixel * (width - 1) : 0);
  const ptrdiff_t step_y = swap ? col_step : row_step;
  const ptrdiff_t step_x = swap ? row_step : col_step;
  constexpr int kBlock = 64;  // both sides stay in cache when axes swap
  for (int y0 = 0; y0 < out.size.height; y0 += kBlock) {
    for (int x0 = 0; x0 < out.size.width; x0 += kBlock) {
      const int x1 = std::min(x0 + kBlock, out.size.width);
      for (int y = y0; y < std::min(y0 + kBlock, out.size.height); ++y) {
        uint8_t* to = out.Row(y).data() + pixel * x0;
        const uint8_t* from = origin + step_y * y + step_x * x0;
        for (int x = x0; x < x1; ++x, to += pixel, from += step_x) std::memcpy(to, from, RgbImage::kChannels);
      }
    }
  }
  return out;
}

}  // namespace fulger
