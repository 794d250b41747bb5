#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "coordinator/image/codec.h"

namespace fulger {
namespace {

std::string_view Describe(VP8StatusCode code) {
  switch (code) {
    case VP8_STATUS_OK:
      return "no error";
    case VP8_STATUS_OUT_OF_MEMORY:
      return "out of memory";
    case VP8_STATUS_INVALID_PARAM:
      return "invalid parameter";
    case VP8_STATUS_BITSTREAM_ERROR:
      return "the bit stream is damaged";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "an unsupported feature";
    case VP8_STATUS_SUSPENDED:
      return "suspended";
    case VP8_STATUS_USER_ABORT:
      return "aborted";
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return "truncated";
  }
  return "an unknown error";
}

// The canvas after the first frame; where the frame does not reach it is black (transparent, alpha dropped).
absl::StatusOr<RgbImage> DecodeFirstFrame(std::string_view bytes, ImageSize stored) {
  WebPAnimDecoderOptions options;
  if (!WebPAnimDecoderOptionsInit(&options)) return Internal("WebP: libwebpdemux has another version");
  options.color_mode = MODE_RGBA;
  const WebPData data = {.bytes = reinterpret_cast<const uint8_t*>(bytes.data()), .size = bytes.size()};
  const std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(
      WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  WebPAnimInfo info;
  if (decoder == nullptr || !WebPAnimDecoderGetInfo(decoder.get(), &info)) {
    return InvalidArgument("WebP: the animation is damaged");
  }
  if (info.canvas_height != static_cast<uint32_t>(stored.height) ||
      info.canvas_width != static_cast<uint32_t>(stored.width)) {
    return InvalidArgument("WebP: two canvas sizes, {}x{} and {}x{}", stored.height, stored.width,
                           info.canvas_height, info.canvas_width);
  }
  uint8_t* rgba = nullptr;  // owned by the decoder
  int timestamp = 0;
  if (!WebPAnimDecoderGetNext(decoder.get(), &rgba, &timestamp)) {
    return InvalidArgument("WebP: the first frame is damaged");
  }
  RgbImage image(stored);
  for (size_t i = 0; i * 3 < image.pixels.size(); ++i) {
    for (size_t c = 0; c < 3; ++c) image.pixels[i * 3 + c] = rgba[i * 4 + c];
  }
  return image;
}

}  // namespace

absl::StatusOr<RgbImage> DecodeWebp(std::string_view bytes, ImageSize stored) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) return Internal("WebP: libwebp has another version");
  VP8StatusCode code = WebPGetFeatures(data, bytes.size(), &config.input);
  if (code != VP8_STATUS_OK) return InvalidArgument("WebP: {}", Describe(code));
  if (config.input.has_animation) return DecodeFirstFrame(bytes, stored);
  if (config.input.height != stored.height || config.input.width != stored.width) {
    return InvalidArgument("WebP: two sizes, {}x{} and {}x{}", stored.height, stored.width,
                           config.input.height, config.input.width);
  }
  RgbImage image(stored);
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {.rgba = image.pixels.data(),
                          .stride = static_cast<int>(RgbImage::RowBytes(stored)),
                          .size = image.pixels.size()};
  code = WebPDecode(data, bytes.size(), &config);
  WebPFreeDecBuffer(&config.output);
  if (code != VP8_STATUS_OK) return InvalidArgument("WebP: {}", Describe(code));
  return image;
}

}  // namespace fulger
