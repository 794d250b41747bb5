// libjpeg reports errors by longjmp. Every call into it goes through JpegReader::Guard, which owns the
// setjmp; what is passed to Guard has no destructors to skip, and all memory belongs to objects outside of
// it.
#include <cstdio>  // before jpeglib.h, which needs FILE

#include <jpeglib.h>

#include <jerror.h>

#include <csetjmp>

#include "coordinator/image/codec.h"

namespace fulger {
namespace {

// A progressive file may repeat scans that cost time and change nothing; real ones have about ten.
constexpr int kMaxScans = 200;

// c * k / 255, rounded as Pillow rounds it.
uint8_t Scale255(uint32_t c, uint32_t k) {
  const uint32_t t = c * k + 128;
  return static_cast<uint8_t>(((t >> 8) + t) >> 8);
}

class JpegReader {
 public:
  JpegReader() {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = [](j_common_ptr info) { Self(info).Fail(info); };
    errors_.emit_message = [](j_common_ptr info, int level) { Self(info).OnMessage(info, level); };
    progress_.progress_monitor = [](j_common_ptr info) { Self(info).CheckScans(); };
  }
  ~JpegReader() { jpeg_destroy_decompress(&info_); }  // does nothing before jpeg_create_decompress
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  bool ReadHeader(std::string_view bytes) {
    return Guard([&] {
      jpeg_create_decompress(&info_);
      info_.progress = &progress_;
      jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes.data()),
                   static_cast<unsigned long>(bytes.size()));
      jpeg_read_header(&info_, TRUE);
    });
  }
  bool Start(J_COLOR_SPACE out) {
    info_.out_color_space = out;
    return Guard([&] { jpeg_start_decompress(&info_); });
  }
  bool ReadRow(uint8_t* row) {
    return Guard([&] { jpeg_read_scanlines(&info_, &row, 1); });
  }
  bool Finish() {
    return Guard([&] { jpeg_finish_decompress(&info_); });
  }

  const jpeg_decompress_struct& info() const { return info_; }
  absl::Status error() const { return InvalidArgument("JPEG: damaged or truncated: {}", message_); }

 private:
  static JpegReader& Self(j_common_ptr info) { return *static_cast<JpegReader*>(info->client_data); }

  template <typename Step>
  bool Guard(Step&& step) {
    if (setjmp(jump_) != 0) return false;
    step();
    return true;
  }

  [[noreturn]] void Fail(j_common_ptr info) {
    errors_.format_message(info, message_);
    std::longjmp(jump_, 1);
  }
  // Warnings after which libjpeg makes pixels up. Others (bytes between segments, odd versions) are harmless.
  void OnMessage(j_common_ptr info, int level) {
    if (level >= 0) return;
    switch (errors_.msg_code) {
      case JWRN_JPEG_EOF:
      case JWRN_HIT_MARKER:
      case JWRN_HUFF_BAD_CODE:
      case JWRN_ARITH_BAD_CODE:
      case JWRN_MUST_RESYNC:
        Fail(info);
      default:
        return;
    }
  }
  void CheckScans() {
    if (info_.input_scan_number <= kMaxScans) return;
    std::snprintf(message_, sizeof(message_), "more than %d scans", kMaxScans);
    std::longjmp(jump_, 1);
  }

  jpeg_decompress_struct info_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_progress_mgr progress_ = {};
  std::jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = {};
};

void GrayToRgb(const uint8_t* in, int width, uint8_t* out) {
  for (int x = 0; x < width; ++x, out += 3) out[0] = out[1] = out[2] = in[x];
}

// Adobe writes inverted CMYK, and like Pillow we take every CMYK file for one of Adobe's.
void InvertedCmykToRgb(const uint8_t* in, int width, uint8_t* out) {
  for (int x = 0; x < width; ++x, in += 4, out += 3) {
    const uint8_t light = in[3];
    for (int c = 0; c < 3; ++c) out[c] = static_cast<uint8_t>(light - Scale255(255U - in[c], light));
  }
}

}  // namespace

absl::StatusOr<RgbImage> DecodeJpeg(std::string_view bytes, ImageSize stored) {
  JpegReader reader;
  if (!reader.ReadHeader(bytes)) return reader.error();
  const jpeg_decompress_struct& info = reader.info();
  if (info.image_height != static_cast<JDIMENSION>(stored.height) ||
      info.image_width != static_cast<JDIMENSION>(stored.width)) {
    return InvalidArgument("JPEG: two frame headers, of {}x{} and {}x{}", stored.height, stored.width,
                           info.image_height, info.image_width);
  }
  const int components = info.num_components;
  if (components != 1 && components != 3 && components != 4) {
    return InvalidArgument("JPEG: {} components, expected 1, 3 or 4", components);
  }
  const J_COLOR_SPACE space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
  if (!reader.Start(space)) return reader.error();
  RgbImage image(stored);
  std::vector<uint8_t> row(static_cast<size_t>(stored.width) * components);
  for (int y = 0; y < stored.height; ++y) {
    uint8_t* out = image.Row(y).data();
    if (!reader.ReadRow(components == 3 ? out : row.data())) return reader.error();
    if (components == 1) GrayToRgb(row.data(), stored.width, out);
    if (components == 4) InvertedCmykToRgb(row.data(), stored.width, out);
  }
  if (!reader.Finish()) return reader.error();
  return image;
}

}  // namespace fulger
