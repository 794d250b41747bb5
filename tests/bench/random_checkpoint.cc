#include "tests/bench/random_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/bfloat16.h"
#include "base/log.h"
#include "model/config.h"
#include "model/tensors.h"

namespace fulger {

absl::Status WriteRandomCheckpoint(const std::string& dir, const std::string& config_json) {
  std::filesystem::create_directories(dir);
  if (std::filesystem::exists(dir + "/complete")) return absl::OkStatus();
  LogInfo("writing random weights to {}", dir);
  std::ofstream(dir + "/config.json") << config_json;
  ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(config_json));
  std::string header = "{";
  uint64_t offset = 0;
  const std::vector<TensorSpec> table = TensorTable(config);
  const Naming naming = config.vision.has_value() ? Naming::kReleased : Naming::kReleasedText;
  for (const TensorSpec& spec : table) {
    const std::string name = Locate(config, spec, naming).name;
    std::string shape;
    for (const int64_t d : spec.shape) shape += (shape.empty() ? "" : ",") + std::to_string(d);
    const uint64_t bytes = static_cast<uint64_t>(spec.elements()) * 2;
    header += fmt::format(R"({}"{}":{{"dtype":"BF16","shape":[{}],"data_offsets":[{},{}]}})",
                          header.size() == 1 ? "" : ",", name, shape, offset, offset + bytes);
    offset += bytes;
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  std::ofstream file(dir + "/model.safetensors", std::ios::binary);
  const uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file << header;
  uint64_t state = 1;
  std::vector<uint16_t> chunk(1 << 20);
  for (const TensorSpec& spec : table) {
    const bool norm = spec.shape.size() == 1;
    const float scale = norm ? 0.1F : 1.7F / std::sqrt(static_cast<float>(spec.shape.back()));
    for (int64_t done = 0; done < spec.elements();) {
      const int64_t n = std::min<int64_t>(static_cast<int64_t>(chunk.size()), spec.elements() - done);
      for (int64_t i = 0; i < n; ++i) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const float u = static_cast<float>(state >> 40) * 0x1p-23F - 1.0F;
        chunk[static_cast<size_t>(i)] = FloatToBF16((norm ? 1.0F : 0.0F) + scale * u);
      }
      file.write(reinterpret_cast<const char*>(chunk.data()), n * 2);
      done += n;
    }
  }
  if (!file.flush()) return Unavailable("{}/model.safetensors: the disk is full?", dir);
  std::ofstream(dir + "/complete") << "yes\n";
  return absl::OkStatus();
}

}  // namespace fulger
