#include "coordinator/image/decode.h"

#include <algorithm>

#include "coordinator/image/codec.h"
#include "coordinator/image/header.h"
#include "coordinator/image/orientation.h"

namespace fulger {
namespace {

using namespace std::string_view_literals;

constexpr size_t kShownBytes = 12;

// "ff d8 ff (...)": the first bytes in both readings, for somebody who sent a web page or a HEIC file.
std::string FirstBytes(std::string_view bytes) {
  std::string hex, text;
  for (const char c : bytes.substr(0, kShownBytes)) {
    hex += fmt::format("{}{:02x}", hex.empty() ? "" : " ", static_cast<uint8_t>(c));
    text += c >= ' ' && c <= '~' ? c : '.';
  }
  return fmt::format("{} \"{}\"", hex, text);
}

absl::StatusOr<ImageFormat> Sniff(std::string_view bytes) {
  if (bytes.empty()) return InvalidArgument("image: empty");
  if (bytes.starts_with("\xff\xd8\xff"sv)) return ImageFormat::kJpeg;
  if (bytes.starts_with(kPngSignature)) return ImageFormat::kPng;
  if (bytes.starts_with("GIF87a"sv) || bytes.starts_with("GIF89a"sv)) return ImageFormat::kGif;
  if (bytes.starts_with("RIFF"sv) && bytes.find("WEBP"sv, 8) == 8) return ImageFormat::kWebp;
  return InvalidArgument("image: {} bytes that begin with {} are not JPEG, PNG, WebP or GIF", bytes.size(),
                         FirstBytes(bytes));
}

absl::StatusOr<ImageHeader> ReadHeader(ImageFormat format, std::string_view bytes) {
  switch (format) {
    case ImageFormat::kJpeg:
      return ReadJpegHeader(bytes);
    case ImageFormat::kPng:
      return ReadPngHeader(bytes);
    case ImageFormat::kWebp:
      return ReadWebpHeader(bytes);
    case ImageFormat::kGif:
      return ReadGifHeader(bytes);
  }
  return Internal("image: format {}", static_cast<int>(format));
}

absl::StatusOr<RgbImage> Decode(const ImageHeader& header, std::string_view bytes) {
  switch (header.format) {
    case ImageFormat::kJpeg:
      return DecodeJpeg(bytes, header.stored);
    case ImageFormat::kPng:
      return DecodePng(bytes, header.stored);
    case ImageFormat::kWebp:
      return DecodeWebp(bytes, header.stored);
    case ImageFormat::kGif:
      return DecodeGif(bytes, header.stored);
  }
  return Internal("image: format {}", static_cast<int>(header.format));
}

absl::Status CheckLimits(const ImageHeader& header, const ImageLimits& limits) {
  const std::string_view name = FormatName(header.format);
  const int64_t height = header.stored.height;
  const int64_t width = header.stored.width;
  if (height < 1 || width < 1) {
    return InvalidArgument("{}: the header says {}x{} pixels (height x width)", name, height, width);
  }
  if (std::max(height, width) > limits.max_side) {
    return InvalidArgument("{}: the header says {}x{} pixels (height x width), the limit for a side is {}",
                           name, height, width, limits.max_side);
  }
  if (static_cast<uint64_t>(height * width) > limits.max_pixels) {
    return InvalidArgument("{}: the header says {}x{} = {} pixels, the limit is {}", name, height, width,
                           height * width, limits.max_pixels);
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view FormatName(ImageFormat format) {
  switch (format) {
    case ImageFormat::kJpeg:
      return "JPEG";
    case ImageFormat::kPng:
      return "PNG";
    case ImageFormat::kWebp:
      return "WebP";
    case ImageFormat::kGif:
      return "GIF";
  }
  return "image";
}

absl::StatusOr<ImageHeader> ProbeImage(std::string_view bytes, const ImageLimits& limits) {
  if (bytes.size() > limits.max_bytes) {
    return InvalidArgument("image: {} bytes, the limit is {}", bytes.size(), limits.max_bytes);
  }
  ASSIGN_OR_RETURN(const ImageFormat format, Sniff(bytes));
  ASSIGN_OR_RETURN(ImageHeader header, ReadHeader(format, bytes));
  header.format = format;
  RETURN_IF_ERROR(CheckLimits(header, limits));
  return header;
}

absl::StatusOr<RgbImage> DecodeImage(std::string_view bytes, const ImageLimits& limits) {
  ASSIGN_OR_RETURN(const ImageHeader header, ProbeImage(bytes, limits));
  ASSIGN_OR_RETURN(RgbImage image, Decode(header, bytes));
  return ApplyOrientation(std::move(image), header.orientation);
}

}  // namespace fulger
