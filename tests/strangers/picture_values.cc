// What a picture becomes before the vision tower, for comparison with other people's processors:
//
//   picture_values MODEL_DIR OUT PICTURE...
//
// writes for each picture int32 [height, width, tiles, tile size, patch size], uint8 [tiles, S, S, 3] as the
// coordinator sends them, and float32 [tiles, patches, 3, patch, patch] as a CPU rank normalises them.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <span>
#include <vector>

#include "base/file.h"
#include "coordinator/image/decode.h"
#include "coordinator/image/tiles.h"
#include "kernels/device/device.h"
#include "kernels/ops/ops.h"
#include "model/picture/processor_config.h"

namespace fulger {
namespace {

template <typename T>
void Write(std::ofstream& out, std::span<const T> values) {
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
}

absl::Status WritePicture(const std::string& path, const ImageProcessorConfig& config, Device& device,
                          std::ofstream& out) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  ASSIGN_OR_RETURN(const RgbImage image,
                   DecodeImage(bytes, {.max_bytes = uint64_t{1} << 26, .max_pixels = uint64_t{1} << 26}));
  ASSIGN_OR_RETURN(ImageTiles tiles, MakeTiles(image, config));
  const int64_t n = tiles.grid.tile_count(), side = tiles.tile_size, patch = config.patch_size;
  const int64_t patches = n * (side / patch) * (side / patch), width = 3 * patch * patch;
  const std::vector<int32_t> head = {tiles.grid.original.height, tiles.grid.original.width,
                                     static_cast<int32_t>(n), static_cast<int32_t>(side),
                                     static_cast<int32_t>(patch)};
  std::vector<float> values(static_cast<size_t>(patches * width));
  PatchifyArgs args{.tiles = TensorView(tiles.pixels.data(), DType::kU8, {n, side, side, 3}),
                    .patch = patch,
                    .out = MutTensorView(values.data(), DType::kF32, {patches, width})};
  for (size_t c = 0; c < 3; ++c) {
    args.mean[c] = static_cast<float>(config.mean[c]);
    args.std[c] = static_cast<float>(config.std[c]);
  }
  RETURN_IF_ERROR(device.ops().Patchify(device.stream(), args));
  RETURN_IF_ERROR(device.stream().Synchronize());
  Write<int32_t>(out, head);
  Write<uint8_t>(out, tiles.pixels);
  Write<float>(out, values);
  return absl::OkStatus();
}

absl::Status Run(std::span<char* const> arguments) {
  if (arguments.size() < 4) return InvalidArgument("usage: picture_values MODEL_DIR OUT PICTURE...");
  ASSIGN_OR_RETURN(const ImageProcessorConfig config, LoadImageProcessorConfig(arguments[1]));
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, MakeDevice("cpu", {.threads = 1}));
  std::ofstream out(arguments[2], std::ios::binary);
  for (const char* path : arguments.subspan(3)) RETURN_IF_ERROR(WritePicture(path, config, *device, out));
  return out.good() ? absl::OkStatus() : Unavailable("{}: cannot be written", arguments[2]);
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  const absl::Status status = fulger::Run(std::span(argv, static_cast<size_t>(argc)));
  if (!status.ok()) std::fprintf(stderr, "%s\n", fulger::Message(status).c_str());
  return status.ok() ? 0 : 1;
}
