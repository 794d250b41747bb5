#include "tests/support/golden_checkpoint.h"

#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "base/bfloat16.h"
#include "base/file.h"
#include "model/config.h"
#include "model/tensors.h"
#include "tests/support/safetensors_writer.h"

namespace fulger {

absl::Status WriteGoldenCheckpoint(const golden::ModelCase& golden, const std::string& dir, DType dtype) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(golden.config_path()));
  std::ofstream(dir + "/config.json") << text;
  ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(text));
  if (config.vision.has_value()) {
    std::string pinpoints;
    for (const auto& [h, w] : config.image_grid_pinpoints) {
      pinpoints += fmt::format("{}[{}, {}]", pinpoints.empty() ? "" : ", ", h, w);
    }
    std::ofstream(dir + "/preprocessor_config.json")
        << fmt::format(R"({{"size": [{0}, {0}], "patch_size": {1}, "process_image_mode": "anyres",
  "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
  "image_grid_pinpoints": [{2}]}})",
                       config.vision->image_size, config.vision->patch_size, pinpoints);
  }
  std::vector<testing_support::TensorToWrite> tensors;
  const Naming naming = config.vision.has_value() ? Naming::kReleased : Naming::kReleasedText;
  for (const TensorSpec& spec : TensorTable(config)) {
    const std::string name = Locate(config, spec, naming).name;
    std::vector<float> values = golden::Weight(golden, name, spec.shape);
    if (dtype == DType::kBF16) {
      for (float& v : values) v = BF16ToFloat(FloatToBF16(v));  // the writer wants exact values
    }
    tensors.push_back({.name = name, .shape = spec.shape, .dtype = dtype, .values = std::move(values)});
  }
  testing_support::WriteSafetensors(dir + "/model.safetensors", tensors);
  return absl::OkStatus();
}

PictureTiles GoldenPicture(const golden::Image& image, int64_t tile_side, size_t index) {
  const std::vector<uint8_t> tiles = golden::Tiles(image, tile_side);
  return {.key = fmt::format("{}golden picture", static_cast<char>('0' + index)),
          .tiles = image.tiles,
          .height = image.height,
          .width = image.width,
          .pixels = std::string(tiles.begin(), tiles.end())};
}

}  // namespace fulger
