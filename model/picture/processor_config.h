// How a checkpoint wants its pictures: tile and patch size, canvases to choose from, normalisation constants.
// Read from preprocessor_config.json, in the legacy spelling of the release and in the native one of
// transformers.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/picture/image_size.h"

namespace fulger {

struct ImageProcessorConfig {
  int tile_size = 336;  // pixels; tiles are square, the ViT's image_size
  int patch_size = 14;  // pixels; divides tile_size
  // Canvases in the order in which they are tried. Each side is a multiple of tile_size. The JSON's pairs are
  // read as (height, width), as transformers does; the released list is symmetric.
  std::vector<ImageSize> pinpoints;
  // A worker normalises: (pixel / 255 - mean) / std per channel.
  std::array<double, 3> mean = {0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> std = {0.26862954, 0.26130258, 0.27577711};
  std::string source = "built-in defaults";  // for the start-up log

  int patches_per_side() const { return tile_size / patch_size; }
};

// The released values, with the 28 canvases of at most 18 tiles.
ImageProcessorConfig DefaultImageProcessorConfig();

// INVALID_ARGUMENT names the key, what was expected and what was found. Absent keys keep the released values;
// a tile size other than 336 without pinpoints is an error, because the 28 canvases belong to 336. `source`
// is the file's name for messages.
absl::StatusOr<ImageProcessorConfig> ParseImageProcessorConfig(std::string_view json,
                                                               std::string_view source);

// Reads `checkpoint_dir`/preprocessor_config.json. A checkpoint without the file gets the defaults, and
// `source` says so: the caller logs it.
absl::StatusOr<ImageProcessorConfig> LoadImageProcessorConfig(const std::string& checkpoint_dir);

// The processor's sizes must be those of config.json's vision tower, or the features have another shape.
absl::Status CheckMatchesVisionTower(const ImageProcessorConfig& config, int image_size, int patch_size);

}  // namespace fulger
