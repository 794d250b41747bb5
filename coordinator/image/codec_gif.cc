#include <gif_lib.h>

#include <array>
#include <cstring>
#include <memory>

#include "coordinator/image/codec.h"

namespace fulger {
namespace {

struct CloseGif {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};
using GifHandle = std::unique_ptr<GifFileType, CloseGif>;

absl::Status GifError(int code) {
  const char* text = GifErrorString(code);
  return InvalidArgument("GIF: damaged or truncated: {}", text != nullptr ? text : "unknown error");
}

int Read(GifFileType* gif, GifByteType* out, int count) {
  auto& rest = *static_cast<std::string_view*>(gif->UserData);
  const size_t n = std::min(rest.size(), static_cast<size_t>(count));
  std::memcpy(out, rest.data(), n);
  rest.remove_prefix(n);
  return static_cast<int>(n);
}

// Moves to the first picture's pixels. Returns the index that stands for "transparent", or 0: what the canvas
// outside of the frame is filled with.
absl::StatusOr<uint8_t> FindFirstFrame(GifFileType* gif) {
  uint8_t background = 0;
  for (;;) {
    GifRecordType type = UNDEFINED_RECORD_TYPE;
    if (DGifGetRecordType(gif, &type) != GIF_OK) return GifError(gif->Error);
    if (type == IMAGE_DESC_RECORD_TYPE) {
      if (DGifGetImageDesc(gif) != GIF_OK) return GifError(gif->Error);
      return background;
    }
    if (type != EXTENSION_RECORD_TYPE) return InvalidArgument("GIF: no picture");
    int code = 0;
    GifByteType* block = nullptr;  // length, then bytes
    if (DGifGetExtension(gif, &code, &block) != GIF_OK) return GifError(gif->Error);
    if (code == GRAPHICS_EXT_FUNC_CODE && block != nullptr && block[0] >= 4 && (block[1] & 1))
      background = block[4];
    while (block != nullptr) {
      if (DGifGetExtensionNext(gif, &block) != GIF_OK) return GifError(gif->Error);
    }
  }
}

absl::Status ReadFrame(GifFileType* gif, int canvas_width, std::vector<uint8_t>& canvas) {
  struct Pass {
    int first, step;
  };
  constexpr std::array<Pass, 4> kInterlaced = {{{0, 8}, {4, 8}, {2, 4}, {1, 2}}};
  constexpr std::array<Pass, 1> kPlain = {{{0, 1}}};
  const GifImageDesc& frame = gif->Image;
  const std::span<const Pass> passes =
      frame.Interlace ? std::span<const Pass>(kInterlaced) : std::span<const Pass>(kPlain);
  for (const Pass& pass : passes) {
    for (int y = pass.first; y < frame.Height; y += pass.step) {
      uint8_t* row = canvas.data() + static_cast<size_t>(frame.Top + y) * canvas_width + frame.Left;
      if (DGifGetLine(gif, row, frame.Width) != GIF_OK) return GifError(gif->Error);
    }
  }
  return absl::OkStatus();
}

// Pillow takes a palette of exactly the grey ramp, or none, for a grey picture of 256 values; entries that a
// real palette does not give are black.
std::array<std::array<uint8_t, 3>, 256> ColorTable(const ColorMapObject* map) {
  std::array<std::array<uint8_t, 3>, 256> table = {};
  bool gray = true;
  const int count = map != nullptr ? std::min(map->ColorCount, 256) : 0;
  for (int i = 0; i < count; ++i) {
    const GifColorType& color = map->Colors[i];
    table[i] = {color.Red, color.Green, color.Blue};
    gray = gray && color.Red == i && color.Green == i && color.Blue == i;
  }
  for (int i = 0; gray && i < 256; ++i) table[i].fill(static_cast<uint8_t>(i));
  return table;
}

}  // namespace

absl::StatusOr<RgbImage> DecodeGif(std::string_view bytes, ImageSize stored) {
  int code = 0;
  const GifHandle gif(DGifOpen(&bytes, Read, &code));
  if (gif == nullptr) return GifError(code);
  ASSIGN_OR_RETURN(const uint8_t background, FindFirstFrame(gif.get()));
  const GifImageDesc& frame = gif->Image;
  if (frame.Top < 0 || frame.Left < 0 || frame.Top + frame.Height > stored.height ||
      frame.Left + frame.Width > stored.width) {
    return InvalidArgument("GIF: a frame of {}x{} at {},{} is outside of the canvas of {}x{}", frame.Height,
                           frame.Width, frame.Top, frame.Left, stored.height, stored.width);
  }
  std::vector<uint8_t> canvas(static_cast<size_t>(stored.height) * stored.width, background);
  RETURN_IF_ERROR(ReadFrame(gif.get(), stored.width, canvas));
  const auto table = ColorTable(frame.ColorMap != nullptr ? frame.ColorMap : gif->SColorMap);
  RgbImage image(stored);
  uint8_t* out = image.pixels.data();
  for (const uint8_t index : canvas) {
    std::memcpy(out, table[index].data(), 3);
    out += 3;
  }
  return image;
}

}  // namespace fulger
