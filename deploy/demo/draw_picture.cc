// Draws the picture of the demo: a lightning bolt before a night sky over hills, 480 x 360, as a JPEG.
#include <cstdio>

#include <jpeglib.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

constexpr int kWidth = 480;
constexpr int kHeight = 360;
constexpr int kQuality = 90;

struct Point {
  double x, y;
};
constexpr std::array<Point, 7> kBolt = {
    {{268, 20}, {178, 190}, {236, 190}, {196, 318}, {322, 142}, {256, 142}, {306, 20}}};

// Even-odd rule.
bool InsideBolt(double x, double y) {
  bool inside = false;
  for (size_t i = 0, j = kBolt.size() - 1; i < kBolt.size(); j = i++) {
    const Point a = kBolt[i], b = kBolt[j];
    if ((a.y > y) != (b.y > y) && x < (b.x - a.x) * (y - a.y) / (b.y - a.y) + a.x) inside = !inside;
  }
  return inside;
}

std::array<uint8_t, 3> Pixel(int x, int y) {
  if (InsideBolt(x, y)) return {255, static_cast<uint8_t>(226 - y / 4), 64};
  const double from_middle = (x - kWidth / 2.0) / kWidth;
  if (y > 300 + 70 * from_middle * from_middle) {
    return {24, static_cast<uint8_t>(70 + (x + y) % 24), 40};
  }
  return {static_cast<uint8_t>(18 + y / 8), static_cast<uint8_t>(24 + y / 6),
          static_cast<uint8_t>(70 + y / 3)};
}

std::vector<uint8_t> Draw() {
  std::vector<uint8_t> rgb;
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      for (const uint8_t value : Pixel(x, y)) rgb.push_back(value);
    }
  }
  return rgb;
}

// libjpeg's default error handler ends the program with a message: fine for a tool.
void WriteJpeg(std::vector<uint8_t> rgb, std::FILE* file) {
  jpeg_compress_struct jpeg;
  jpeg_error_mgr errors;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  jpeg_stdio_dest(&jpeg, file);
  jpeg.image_width = kWidth;
  jpeg.image_height = kHeight;
  jpeg.input_components = 3;
  jpeg.in_color_space = JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, kQuality, TRUE);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = rgb.data() + size_t{jpeg.next_scanline} * kWidth * 3;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: draw_picture FILE.jpg\n");
    return 2;
  }
  std::FILE* file = std::fopen(argv[1], "wb");
  if (file == nullptr) {
    std::perror(argv[1]);
    return 1;
  }
  WriteJpeg(Draw(), file);
  return std::fclose(file) == 0 ? 0 : 1;
}
