#include "model/picture/processor_config.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"

namespace fulger {
namespace {

using Json = nlohmann::json;

constexpr int kMaxTileSize = 4096;
constexpr int kMaxTiles = 1024;  // of one canvas
constexpr size_t kMaxPinpoints = 1024;
constexpr int kReleasedTile = 336;
constexpr int kBicubic = 3;  // Pillow's number for it

// A value for a message, cut so that a hostile file cannot fill the log.
std::string Show(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

absl::StatusOr<int> PositiveInt(const Json& value, std::string_view what, int limit) {
  if (!value.is_number_integer() || value.get<int64_t>() < 1 || value.get<int64_t>() > limit) {
    return InvalidArgument("{}: expected a whole number from 1 to {}, found {}", what, limit, Show(value));
  }
  return value.get<int>();
}

// {"height": 336, "width": 336}, or the legacy [336, 336].
absl::StatusOr<int> TileSize(const Json& size) {
  Json height, width;
  if (size.is_object() && size.contains("height") && size.contains("width")) {
    height = size["height"];
    width = size["width"];
  } else if (size.is_array() && size.size() == 2) {
    width = size[0];
    height = size[1];
  } else {
    return InvalidArgument("size: expected {{height, width}} or [width, height], found {}", Show(size));
  }
  ASSIGN_OR_RETURN(const int h, PositiveInt(height, "size height", kMaxTileSize));
  ASSIGN_OR_RETURN(const int w, PositiveInt(width, "size width", kMaxTileSize));
  if (h != w) return InvalidArgument("size: tiles must be square, found height {} and width {}", h, w);
  return h;
}

absl::Status ReadThree(const Json& root, const char* key, bool positive, std::array<double, 3>& out) {
  if (!root.contains(key) || root[key].is_null()) return absl::OkStatus();
  const Json& value = root[key];
  if (!value.is_array() || value.size() != 3) {
    return InvalidArgument("{}: expected 3 numbers, found {}", key, Show(value));
  }
  for (size_t c = 0; c < 3; ++c) {
    const bool number = value[c].is_number();
    const double v = number ? value[c].get<double>() : 0.0;
    if (!number || !std::isfinite(v) || (positive && v <= 0.0)) {
      return InvalidArgument("{}[{}]: expected a finite {}number, found {}", key, c,
                             positive ? "positive " : "", Show(value[c]));
    }
    out[c] = v;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ImageSize>> ReadPinpoints(const Json& value, int tile) {
  if (!value.is_array() || value.empty() || value.size() > kMaxPinpoints) {
    return InvalidArgument("image_grid_pinpoints: expected a list of 1 to {} [height, width] pairs, found {}",
                           kMaxPinpoints, Show(value));
  }
  std::vector<ImageSize> out;
  for (size_t i = 0; i < value.size(); ++i) {
    const Json& pair = value[i];
    const std::string what = fmt::format("image_grid_pinpoints[{}]", i);
    if (!pair.is_array() || pair.size() != 2) {
      return InvalidArgument("{}: expected [height, width], found {}", what, Show(pair));
    }
    ASSIGN_OR_RETURN(const int h, PositiveInt(pair[0], what, tile * kMaxTiles));
    ASSIGN_OR_RETURN(const int w, PositiveInt(pair[1], what, tile * kMaxTiles));
    if (h % tile != 0 || w % tile != 0) {
      return InvalidArgument("{}: expected multiples of the tile size {}, found {}", what, tile, Show(pair));
    }
    if ((h / tile) * (w / tile) > kMaxTiles) {
      return InvalidArgument("{}: {} has {} tiles, at most {}", what, Show(pair), (h / tile) * (w / tile),
                             kMaxTiles);
    }
    out.push_back({.height = h, .width = w});
  }
  return out;
}

// Steps that we always or never do: a file that says otherwise describes another model.
absl::Status CheckFixedSteps(const Json& root) {
  constexpr struct {
    const char* key;
    bool expected;
  } kSteps[] = {{"do_resize", true},
                {"do_rescale", true},
                {"do_normalize", true},
                {"do_convert_rgb", true},
                {"do_center_crop", false}};
  for (const auto& step : kSteps) {
    if (!root.contains(step.key) || root[step.key].is_null()) continue;
    if (root[step.key] != Json(step.expected)) {
      return InvalidArgument("{}: only {} is supported, found {}", step.key, step.expected,
                             Show(root[step.key]));
    }
  }
  if (root.contains("process_image_mode") && root["process_image_mode"] != Json("anyres")) {
    return InvalidArgument("process_image_mode: only \"anyres\" is supported, found {}",
                           Show(root["process_image_mode"]));
  }
  if (root.contains("resample") && !root["resample"].is_null() && root["resample"] != Json(kBicubic)) {
    return InvalidArgument("resample: only {} (bicubic) is supported, found {}", kBicubic,
                           Show(root["resample"]));
  }
  if (root.contains("rescale_factor") && !root["rescale_factor"].is_null()) {
    const Json& factor = root["rescale_factor"];
    if (!factor.is_number() || std::abs(factor.get<double>() * 255.0 - 1.0) > 1e-6) {
      return InvalidArgument("rescale_factor: only 1/255 is supported, found {}", Show(factor));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ImageProcessorConfig> FromJson(const Json& root) {
  if (!root.is_object()) return InvalidArgument("expected a JSON object, found {}", Show(root));
  RETURN_IF_ERROR(CheckFixedSteps(root));
  ImageProcessorConfig config = DefaultImageProcessorConfig();
  if (root.contains("size") && !root["size"].is_null()) {
    ASSIGN_OR_RETURN(config.tile_size, TileSize(root["size"]));
  }
  if (root.contains("patch_size") && !root["patch_size"].is_null()) {
    ASSIGN_OR_RETURN(config.patch_size, PositiveInt(root["patch_size"], "patch_size", kMaxTileSize));
  }
  if (config.tile_size % config.patch_size != 0) {
    return InvalidArgument("patch_size: expected a divisor of the tile size {}, found {}", config.tile_size,
                           config.patch_size);
  }
  RETURN_IF_ERROR(ReadThree(root, "image_mean", /*positive=*/false, config.mean));
  RETURN_IF_ERROR(ReadThree(root, "image_std", /*positive=*/true, config.std));
  if (root.contains("image_grid_pinpoints") && !root["image_grid_pinpoints"].is_null()) {
    ASSIGN_OR_RETURN(config.pinpoints, ReadPinpoints(root["image_grid_pinpoints"], config.tile_size));
  } else if (config.tile_size != kReleasedTile) {
    return InvalidArgument("image_grid_pinpoints: required with tile size {} (the default list is for {})",
                           config.tile_size, kReleasedTile);
  }
  return config;
}

}  // namespace

ImageProcessorConfig DefaultImageProcessorConfig() {
  constexpr int kMaxSide = 6;       // tiles
  constexpr int kMaxReleased = 18;  // tiles of one canvas
  ImageProcessorConfig config;
  for (int a = 1; a <= kMaxSide; ++a) {
    for (int b = 1; b <= kMaxSide; ++b) {
      if (a * b > kMaxReleased) continue;
      config.pinpoints.push_back({.height = a * kReleasedTile, .width = b * kReleasedTile});
    }
  }
  return config;
}

absl::StatusOr<ImageProcessorConfig> ParseImageProcessorConfig(std::string_view json,
                                                               std::string_view source) {
  const Json root = Json::parse(json.begin(), json.end(), /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return InvalidArgument("{}: not valid JSON", source);
  absl::StatusOr<ImageProcessorConfig> config = FromJson(root);
  if (!config.ok()) return Annotate(config.status(), source);
  config->source = std::string(source);
  return config;
}

absl::StatusOr<ImageProcessorConfig> LoadImageProcessorConfig(const std::string& checkpoint_dir) {
  const std::string path = checkpoint_dir + "/preprocessor_config.json";
  if (!FileExists(path)) {
    ImageProcessorConfig config = DefaultImageProcessorConfig();
    config.source = fmt::format("built-in defaults ({} does not exist)", path);
    return config;
  }
  ASSIGN_OR_RETURN(const std::string json, ReadFile(path, /*limit=*/1 << 20));
  return ParseImageProcessorConfig(json, path);
}

absl::Status CheckMatchesVisionTower(const ImageProcessorConfig& config, int image_size, int patch_size) {
  if (config.tile_size == image_size && config.patch_size == patch_size) return absl::OkStatus();
  return InvalidArgument("{}: tiles of {} pixels with patches of {}, but vision_config expects {} and {}",
                         config.source, config.tile_size, config.patch_size, image_size, patch_size);
}

}  // namespace fulger
