// Reads the committed goldens (data/<case>.json and .bin): what strangers' code says that the tiny models
// answer. README.md names every array. Immutable after Load, so any thread may read.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger::golden {

// tests/golden/model/data, from the source root (where ctest starts every test) or from $FULGER_GOLDEN_DIR.
std::string DataFolder();

// A checkpoint folder that the build wrote (write_fixtures.py lists the names; target golden_checkpoints must
// be among the test's dependencies), or of that name in $FULGER_CHECKPOINT_DIR.
std::string CheckpointFolder(std::string_view name);

// A picture of a case. Its tiles follow from TilePixel (weight_formula.h); `tiles` counts the thumbnail.
struct Image {
  int64_t height = 0;  // of the original, which decides the unpadding
  int64_t width = 0;
  int64_t grid_rows = 0;
  int64_t grid_columns = 0;
  int64_t tiles = 0;
  int64_t tokens = 0;
  int64_t tile_seed = 0;
};

class ModelCase {
 public:
  // `name` is that of the files, "g2_text". Fails on a missing file, a table that does not fit the .bin, or
  // an array of an unknown type.
  static absl::StatusOr<ModelCase> Load(std::string_view name);

  const std::string& name() const { return name_; }
  const std::string& model() const { return model_; }              // "g2"
  const std::string& config_path() const { return config_path_; }  // legacy config.json of the model
  uint64_t weight_seed() const { return weight_seed_; }
  // Layers whose router is FillTieGate instead of the formula.
  const std::vector<int>& tie_gate_layers() const { return tie_gate_layers_; }
  // Whether the answers are those of weights in eight bits: experts, attention's projections and lm_head.
  bool int8() const { return int8_; }
  const std::vector<Image>& images() const { return images_; }

  // An array by name; a name that the file does not have, or of the other type, is NOT_FOUND.
  absl::StatusOr<std::span<const float>> Floats(std::string_view array) const;
  absl::StatusOr<std::span<const int32_t>> Ints(std::string_view array) const;
  absl::StatusOr<std::vector<int64_t>> Shape(std::string_view array) const;

 private:
  struct Array {
    std::vector<int64_t> shape;
    std::vector<float> floats;
    std::vector<int32_t> ints;
    bool is_float = false;
  };

  absl::StatusOr<const Array*> Find(std::string_view array) const;
  absl::Status Parse(const std::string& text);

  std::string name_, model_, config_path_;
  uint64_t weight_seed_ = 0;
  std::vector<int> tie_gate_layers_;
  bool int8_ = false;
  std::vector<Image> images_;
  std::map<std::string, Array, std::less<>> arrays_;
};

// The names of the committed cases, sorted; those of one model when `model` is not empty.
std::vector<std::string> CaseNames(std::string_view model = {});

// uint8 [image.tiles, side, side, 3] of a picture; side is the config's image_size.
std::vector<uint8_t> Tiles(const Image& image, int64_t side);

// One released tensor of the case's model, all elements, row-major.
std::vector<float> Weight(const ModelCase& golden, std::string_view name, std::span<const int64_t> shape);

}  // namespace fulger::golden
