#include "tests/golden/model/golden.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/golden/model/weight_formula.h"

namespace fulger::golden {
namespace {

using Json = nlohmann::json;

Image ParseImage(const Json& j) {
  return {.height = j.at("height").get<int64_t>(),
          .width = j.at("width").get<int64_t>(),
          .grid_rows = j.at("grid_rows").get<int64_t>(),
          .grid_columns = j.at("grid_columns").get<int64_t>(),
          .tiles = j.at("tiles").get<int64_t>(),
          .tokens = j.at("tokens").get<int64_t>(),
          .tile_seed = j.at("tile_seed").get<int64_t>()};
}

template <typename T>
std::vector<T> Copy(std::string_view bytes) {
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
  return out;
}

}  // namespace

std::string DataFolder() {
  const char* folder = std::getenv("FULGER_GOLDEN_DIR");
  return folder != nullptr ? folder : "tests/golden/model/data";
}

std::string CheckpointFolder(std::string_view name) {
  const char* folder = std::getenv("FULGER_CHECKPOINT_DIR");
  return (folder != nullptr ? std::string(folder) : FULGER_BUILT_CHECKPOINTS) + "/" + std::string(name);
}

absl::StatusOr<ModelCase> ModelCase::Load(std::string_view name) {
  const std::string path = DataFolder() + "/" + std::string(name) + ".json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  ModelCase out;
  out.name_ = name;
  if (absl::Status status = out.Parse(text); !status.ok()) return Annotate(status, path);
  return out;
}

absl::Status ModelCase::Parse(const std::string& text) {
  try {
    const Json meta = Json::parse(text);
    model_ = meta.at("model").get<std::string>();
    config_path_ = DataFolder() + "/" + meta.at("config").get<std::string>();
    weight_seed_ = meta.at("weight_seed").get<uint64_t>();
    tie_gate_layers_ = meta.at("tie_gate_layers").get<std::vector<int>>();
    int8_ = meta.value("int8", false);
    for (const Json& image : meta.at("images")) images_.push_back(ParseImage(image));
    ASSIGN_OR_RETURN(const std::string bin, ReadFile(DataFolder() + "/" + meta.at("bin").get<std::string>()));
    const auto expected = meta.at("bin_bytes").get<size_t>();
    if (bin.size() != expected) return DataLoss("bin: expected {} bytes, found {}", expected, bin.size());
    for (const Json& entry : meta.at("arrays")) {
      Array array;
      array.shape = entry.at("shape").get<std::vector<int64_t>>();
      const auto array_name = entry.at("name").get<std::string>();
      const auto dtype = entry.at("dtype").get<std::string>();
      const auto offset = entry.at("offset").get<size_t>();
      size_t bytes = 4;
      for (int64_t d : array.shape) bytes *= static_cast<size_t>(d);
      if (offset > bin.size() || bytes > bin.size() - offset) {
        return DataLoss("array {}: {} bytes at {} of a bin of {}", array_name, bytes, offset, bin.size());
      }
      const std::string_view view = std::string_view(bin).substr(offset, bytes);
      array.is_float = dtype == "f32";
      if (array.is_float) {
        array.floats = Copy<float>(view);
      } else if (dtype == "i32") {
        array.ints = Copy<int32_t>(view);
      } else {
        return InvalidArgument("array {}: dtype {}, expected f32 or i32", array_name, dtype);
      }
      arrays_.emplace(array_name, std::move(array));
    }
  } catch (const Json::exception& e) {
    return InvalidArgument("{}", e.what());
  }
  return absl::OkStatus();
}

absl::StatusOr<const ModelCase::Array*> ModelCase::Find(std::string_view array) const {
  const auto it = arrays_.find(array);
  if (it == arrays_.end()) return NotFound("golden {} has no array {}", name_, array);
  return &it->second;
}

absl::StatusOr<std::span<const float>> ModelCase::Floats(std::string_view array) const {
  ASSIGN_OR_RETURN(const Array* found, Find(array));
  if (!found->is_float) return NotFound("golden {}: array {} is i32, expected f32", name_, array);
  return std::span<const float>(found->floats);
}

absl::StatusOr<std::span<const int32_t>> ModelCase::Ints(std::string_view array) const {
  ASSIGN_OR_RETURN(const Array* found, Find(array));
  if (found->is_float) return NotFound("golden {}: array {} is f32, expected i32", name_, array);
  return std::span<const int32_t>(found->ints);
}

absl::StatusOr<std::vector<int64_t>> ModelCase::Shape(std::string_view array) const {
  ASSIGN_OR_RETURN(const Array* found, Find(array));
  return found->shape;
}

std::vector<std::string> CaseNames(std::string_view model) {
  std::vector<std::string> out;
  const std::string prefix = model.empty() ? "g" : std::string(model) + "_";
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(DataFolder(), error)) {
    const std::string stem = entry.path().stem().string();
    if (entry.path().extension() == ".bin" && stem.starts_with(prefix)) out.push_back(stem);
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<uint8_t> Tiles(const Image& image, int64_t side) {
  std::vector<uint8_t> out;
  out.reserve(static_cast<size_t>(image.tiles * side * side * 3));
  for (int64_t t = 0; t < image.tiles; ++t) {
    for (int64_t y = 0; y < side; ++y) {
      for (int64_t x = 0; x < side; ++x) {
        for (int64_t c = 0; c < 3; ++c) out.push_back(TilePixel(image.tile_seed, t, y, x, c));
      }
    }
  }
  return out;
}

std::vector<float> Weight(const ModelCase& golden, std::string_view name, std::span<const int64_t> shape) {
  size_t count = 1;
  for (int64_t d : shape) count *= static_cast<size_t>(d);
  std::vector<float> out(count);
  for (int layer : golden.tie_gate_layers()) {
    if (name.ends_with(fmt::format("layers.{}.block_sparse_moe.gate.weight", layer))) {
      FillTieGate(shape[0], shape[1], out);
      return out;
    }
  }
  FillWeight(name, shape, golden.weight_seed(), out);
  return out;
}

}  // namespace fulger::golden
