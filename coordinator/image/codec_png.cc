// libpng reports errors by longjmp. Every call that can fail goes through PngReader::Guard, which owns the
// setjmp; what is passed to Guard has no destructors to skip, and all memory belongs to objects outside of
// it.
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "coordinator/image/codec.h"

namespace fulger {
namespace {

constexpr size_t kMessageBytes = 200;

// Metadata that libpng would otherwise parse (and decompress): we need none of it.
constexpr char kIgnoredChunks[] =
    "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0sTER\0tEXt\0tIME\0tR"
    "NS\0zTXt";
constexpr int kIgnoredCount = sizeof(kIgnoredChunks) / 5;

class PngReader {
 public:
  explicit PngReader(std::string_view bytes) : rest_(bytes) {
    png_ = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, this, [](png_structp png, png_const_charp text) { Self(png).Fail(text); },
        [](png_structp, png_const_charp) {});
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  bool ok() const { return info_ != nullptr; }

  // Samples become 8 bits without alpha, but for 16-bit grey, whose conversion is Pillow's own (WidenGray16).
  bool ReadHeader(ImageSize stored) {
    return Guard([&] {
      png_set_read_fn(png_, this, [](png_structp png, png_bytep out, size_t count) {
        static_cast<PngReader*>(png_get_io_ptr(png))->Read(png, out, count);
      });
      png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
      png_set_user_limits(png_, static_cast<png_uint_32>(stored.width),
                          static_cast<png_uint_32>(stored.height));
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, 0);
      png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER,
                                  reinterpret_cast<png_const_bytep>(kIgnoredChunks), kIgnoredCount);
      png_read_info(png_, info_);
      png_set_packing(png_);
      if (png_get_color_type(png_, info_) != PNG_COLOR_TYPE_GRAY) png_set_strip_16(png_);
      png_set_strip_alpha(png_);
      png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
    });
  }
  bool ReadRows(png_bytepp rows) {
    return Guard([&] {
      png_read_image(png_, rows);
      png_read_end(png_, nullptr);
    });
  }

  int color_type() const { return png_get_color_type(png_, info_); }
  int channels() const { return png_get_channels(png_, info_); }
  size_t row_bytes() const { return png_get_rowbytes(png_, info_); }
  ImageSize size() const {
    return {.height = static_cast<int>(png_get_image_height(png_, info_)),
            .width = static_cast<int>(png_get_image_width(png_, info_))};
  }
  // Entries that the file does not give are black, as in Pillow.
  std::array<std::array<uint8_t, 3>, 256> palette() const {
    std::array<std::array<uint8_t, 3>, 256> out = {};
    png_colorp colors = nullptr;
    int count = 0;
    png_get_PLTE(png_, info_, &colors, &count);
    for (int i = 0; i < std::min(count, 256); ++i) out[i] = {colors[i].red, colors[i].green, colors[i].blue};
    return out;
  }
  absl::Status error() const { return InvalidArgument("PNG: damaged or truncated: {}", message_); }

 private:
  static PngReader& Self(png_structp png) { return *static_cast<PngReader*>(png_get_error_ptr(png)); }

  template <typename Step>
  bool Guard(Step&& step) {
    if (setjmp(jump_) != 0) return false;
    step();
    return true;
  }
  [[noreturn]] void Fail(const char* text) {
    std::snprintf(message_, sizeof(message_), "%s", text);
    std::longjmp(jump_, 1);
  }
  void Read(png_structp png, png_bytep out, size_t count) {
    if (count > rest_.size()) png_error(png, "unexpected end of file");
    std::memcpy(out, rest_.data(), count);
    rest_.remove_prefix(count);
  }

  std::string_view rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_;
  char message_[kMessageBytes] = {};
};

using ColorTable = std::array<std::array<uint8_t, 3>, 256>;

// What a grey sample of `bits` <= 8 bits stands for: the largest is white.
ColorTable GrayTable(int bits) {
  ColorTable table = {};
  const int step = 255 / ((1 << bits) - 1);
  for (int i = 0; i < 1 << bits; ++i) table[i].fill(static_cast<uint8_t>(i * step));
  return table;
}

void LookUp(const std::vector<uint8_t>& indices, const ColorTable& table, RgbImage& image) {
  uint8_t* out = image.pixels.data();
  for (const uint8_t index : indices) {
    std::memcpy(out, table[index].data(), 3);
    out += 3;
  }
}

// Pillow clips 16-bit grey at 255 instead of scaling it. That makes most such pictures white; equal all the
// same.
void WidenGray16(const std::vector<uint8_t>& raw, RgbImage& image) {
  for (size_t i = 0; i * 2 < raw.size(); ++i) {
    const uint8_t value = raw[i * 2] != 0 ? 255 : raw[i * 2 + 1];
    std::fill_n(image.pixels.begin() + static_cast<ptrdiff_t>(i * 3), 3, value);
  }
}

}  // namespace

absl::StatusOr<RgbImage> DecodePng(std::string_view bytes, ImageSize stored) {
  constexpr size_t kBitDepthAt = 24;  // IHDR was walked over already
  const int file_bits = static_cast<uint8_t>(bytes[kBitDepthAt]);
  PngReader reader(bytes);
  if (!reader.ok()) return Internal("PNG: the decoder cannot be created");
  if (!reader.ReadHeader(stored)) return reader.error();
  if (reader.size() != stored) {
    return InvalidArgument("PNG: two headers, of {}x{} and {}x{}", stored.height, stored.width,
                           reader.size().height, reader.size().width);
  }
  RgbImage image(stored);
  const bool direct = reader.channels() == 3;
  std::vector<uint8_t> raw(direct ? 0 : reader.row_bytes() * static_cast<size_t>(stored.height));
  std::vector<png_bytep> rows(stored.height);
  for (int y = 0; y < stored.height; ++y) {
    rows[y] = direct ? image.Row(y).data() : raw.data() + reader.row_bytes() * static_cast<size_t>(y);
  }
  if (!reader.ReadRows(rows.data())) return reader.error();
  if (direct) return image;
  if (reader.color_type() == PNG_COLOR_TYPE_PALETTE) {
    LookUp(raw, reader.palette(), image);
  } else if (reader.row_bytes() == static_cast<size_t>(stored.width) * 2) {
    WidenGray16(raw, image);
  } else {
    LookUp(raw, GrayTable(std::min(file_bits, 8)), image);
  }
  return image;
}

}  // namespace fulger
