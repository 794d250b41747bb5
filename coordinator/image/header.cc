#include "coordinator/image/header.h"

#include <algorithm>
#include <optional>
#include <string>

#include "coordinator/image/byte_order.h"
#include "coordinator/image/orientation.h"
#include "coordinator/image/png_text.h"

namespace fulger {
namespace {

using namespace std::string_view_literals;

constexpr int kNoSize = -1;

absl::Status Truncated(std::string_view format, std::string_view what, size_t at, uint64_t needed,
                       size_t size) {
  return InvalidArgument("{}: truncated, {} at byte {} needs {} bytes and the file has {}", format, what, at,
                         needed, size);
}

// A size claimed by 32 bits, kept inside of int: the limit check refuses it all the same.
int Side(uint32_t value) { return static_cast<int>(std::min<uint32_t>(value, INT32_MAX)); }

// EXIF decides where it names an orientation; XMP is asked otherwise.
int ChooseOrientation(std::string_view exif, std::string_view xmp) {
  const std::optional<int> from_exif = ExifOrientation(exif);
  return from_exif ? *from_exif : XmpOrientation(xmp);
}

bool IsFrameMarker(uint32_t marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}
// Markers without a length: restarts, start of image, temporary.
bool StandsAlone(uint32_t marker) { return (marker >= 0xd0 && marker <= 0xd8) || marker == 0x01; }

// Of "XXXX" chunk names in messages.
std::string ChunkName(std::string_view type) {
  std::string name(type);
  std::ranges::replace_if(
      name, [](char c) { return c < ' ' || c > '~'; }, '?');
  return name;
}

}  // namespace

absl::StatusOr<ImageHeader> ReadJpegHeader(std::string_view bytes) {
  constexpr std::string_view kExif = "Exif\0\0"sv;
  constexpr std::string_view kXmp = "http://ns.adobe.com/xap/1.0/\0"sv;
  constexpr size_t kFrameBytes = 6;  // precision, height, width, components
  ImageHeader header;
  header.stored = {.height = kNoSize, .width = kNoSize};
  std::string exif;  // may be split over segments
  std::string_view xmp;
  size_t at = 2;
  for (;;) {
    at = bytes.find('\xff', at);
    if (at == std::string_view::npos) return InvalidArgument("JPEG: truncated before its first scan");
    at = bytes.find_first_not_of('\xff', at);
    if (at == std::string_view::npos) return InvalidArgument("JPEG: truncated before its first scan");
    const uint32_t marker = Byte(bytes, at++);
    if (marker == 0 || StandsAlone(marker)) continue;
    if (marker == 0xd9) return InvalidArgument("JPEG: ends before its first scan");
    if (marker == 0xda) break;
    if (at + 2 > bytes.size()) return Truncated("JPEG", "a segment", at, 2, bytes.size());
    const size_t length = Big16(bytes, at);
    if (length < 2)
      return InvalidArgument("JPEG: segment ff{:02x} at byte {} has length {}", marker, at, length);
    if (at + length > bytes.size()) return Truncated("JPEG", "a segment", at, length, bytes.size());
    const std::string_view body = bytes.substr(at + 2, length - 2);
    at += length;
    if (marker == 0xe1 && body.starts_with(kExif)) {
      exif += body.substr(exif.empty() ? 0 : kExif.size());
    } else if (marker == 0xe1 && body.starts_with(kXmp)) {
      xmp = body.substr(kXmp.size());
    } else if (IsFrameMarker(marker) && header.stored.height == kNoSize) {
      if (body.size() < kFrameBytes) return InvalidArgument("JPEG: frame header of {} bytes", body.size());
      header.stored = {.height = Side(Big16(body, 1)), .width = Side(Big16(body, 3))};
    }
  }
  if (header.stored.height == kNoSize) return InvalidArgument("JPEG: no frame header before the first scan");
  header.orientation = ChooseOrientation(exif, xmp);
  return header;
}

absl::StatusOr<ImageHeader> ReadPngHeader(std::string_view bytes) {
  constexpr size_t kIhdrBytes = 13;
  constexpr size_t kChunkOverhead = 12;  // length, type, checksum
  ImageHeader header;
  header.stored = {.height = kNoSize, .width = kNoSize};
  std::string_view exif;
  std::string raw_exif, xmp;
  size_t at = kPngSignature.size();
  for (;;) {
    if (at + kChunkOverhead > bytes.size())
      return Truncated("PNG", "a chunk", at, kChunkOverhead, bytes.size());
    const uint64_t length = Big32(bytes, at);
    const std::string_view type = bytes.substr(at + 4, 4);
    if (header.stored.height == kNoSize && (type != "IHDR" || length != kIhdrBytes)) {
      return InvalidArgument("PNG: begins with chunk \"{}\" of {} bytes, expected IHDR of {}",
                             ChunkName(type), length, kIhdrBytes);
    }
    if (at + kChunkOverhead + length > bytes.size()) {
      return Truncated("PNG", "chunk " + ChunkName(type), at, kChunkOverhead + length, bytes.size());
    }
    const std::string_view body = bytes.substr(at + 8, length);
    at += kChunkOverhead + length;
    if (type == "IEND") break;
    if (type == "IHDR") {
      if (header.stored.height != kNoSize) return InvalidArgument("PNG: a second IHDR");
      header.stored = {.height = Side(Big32(body, 4)), .width = Side(Big32(body, 0))};
    } else if (type == "eXIf") {
      exif = body;
    } else if (const std::optional<PngText> text = ReadPngText(type, body)) {
      if (text->key == "Raw profile type exif") raw_exif = DecodeRawProfile(text->value);
      if (text->key == "XML:com.adobe.xmp") xmp = text->value;
    }
  }
  header.orientation = ChooseOrientation(exif.empty() ? raw_exif : exif, xmp);
  return header;
}

absl::StatusOr<ImageHeader> ReadWebpHeader(std::string_view bytes) {
  constexpr size_t kRiffBytes = 12;
  constexpr size_t kChunkBytes = 8;
  constexpr size_t kFirstBytes = 30;  // enough for the size in each of the three kinds
  constexpr uint32_t kHasExif = 0x08, kHasXmp = 0x04;
  if (bytes.size() < kFirstBytes) return Truncated("WebP", "the header", 0, kFirstBytes, bytes.size());
  const uint64_t riff = uint64_t{Little32(bytes, 4)} + 8;
  if (riff > bytes.size()) return Truncated("WebP", "the container", 0, riff, bytes.size());
  ImageHeader header;
  const std::string_view kind = bytes.substr(kRiffBytes, 4);
  const std::string_view body = bytes.substr(kRiffBytes + kChunkBytes);
  if (kind == "VP8 " && body.substr(3, 3) == "\x9d\x01\x2a") {
    header.stored = {.height = Side(Little16(body, 8) & 0x3fff), .width = Side(Little16(body, 6) & 0x3fff)};
    return header;
  }
  if (kind == "VP8L" && Byte(body, 0) == 0x2f) {
    const uint32_t bits = Little32(body, 1);
    header.stored = {.height = Side((bits >> 14 & 0x3fff) + 1), .width = Side((bits & 0x3fff) + 1)};
    return header;
  }
  if (kind != "VP8X") return InvalidArgument("WebP: begins with an unknown chunk \"{}\"", ChunkName(kind));
  header.stored = {.height = Side(Little24(body, 7) + 1), .width = Side(Little24(body, 4) + 1)};
  const uint32_t flags = Byte(body, 0);
  std::string_view exif, xmp;
  for (uint64_t at = kRiffBytes; at + kChunkBytes <= riff;) {
    const std::string_view type = bytes.substr(at, 4);
    const uint64_t length = Little32(bytes, at + 4);
    if (at + kChunkBytes + length > riff) {
      return Truncated("WebP", "chunk " + ChunkName(type), at, kChunkBytes + length, riff);
    }
    if (type == "EXIF" && (flags & kHasExif) && exif.empty()) exif = bytes.substr(at + kChunkBytes, length);
    if (type == "XMP " && (flags & kHasXmp) && xmp.empty()) xmp = bytes.substr(at + kChunkBytes, length);
    at += kChunkBytes + length + (length & 1);
  }
  header.orientation = ChooseOrientation(exif, xmp);
  return header;
}

absl::StatusOr<ImageHeader> ReadGifHeader(std::string_view bytes) {
  constexpr size_t kScreenBytes = 13;
  constexpr size_t kFrameBytes = 10;
  if (bytes.size() < kScreenBytes) return Truncated("GIF", "the header", 0, kScreenBytes, bytes.size());
  uint32_t width = Little16(bytes, 6);
  uint32_t height = Little16(bytes, 8);
  const uint32_t flags = Byte(bytes, 10);
  size_t at = kScreenBytes + ((flags & 0x80) ? size_t{3} << ((flags & 7) + 1) : 0);
  while (at < bytes.size() && bytes[at] == '!') {  // extensions: label, then sub-blocks up to an empty one
    at += 2;
    while (at < bytes.size() && bytes[at] != 0) at += 1 + Byte(bytes, at);
    ++at;
  }
  if (at >= bytes.size()) return InvalidArgument("GIF: truncated before its first picture");
  if (bytes[at] != ',') {
    return InvalidArgument("GIF: expected a picture at byte {}, found block 0x{:02x}", at, Byte(bytes, at));
  }
  if (at + kFrameBytes > bytes.size())
    return Truncated("GIF", "the first picture", at, kFrameBytes, bytes.size());
  // A frame larger than the screen makes the screen larger, as in Pillow.
  width = std::max(width, Little16(bytes, at + 1) + Little16(bytes, at + 5));
  height = std::max(height, Little16(bytes, at + 3) + Little16(bytes, at + 7));
  ImageHeader header;
  header.stored = {.height = Side(height), .width = Side(width)};
  return header;
}

}  // namespace fulger
