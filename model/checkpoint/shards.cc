#include "model/checkpoint/shards.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>

#include "base/file.h"

namespace fulger {
namespace {

using nlohmann::json;

constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

absl::Status ReadWeightMap(const json& index, ShardList& shards) {
  if (!index.is_object() || !index.contains("weight_map") || !index.at("weight_map").is_object()) {
    return InvalidArgument("expected an object weight_map");
  }
  for (const auto& [tensor, file] : index.at("weight_map").items()) {
    // A plain name in this folder: an index cannot make us open /etc/passwd.
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (!name.ends_with(".safetensors") || name.find('/') != std::string::npos) {
      return InvalidArgument("weight_map {}: expected the name of a .safetensors file, found {}", tensor,
                             file.dump(-1, ' ', false, json::error_handler_t::replace));
    }
    shards.file_of_tensor[tensor] = name;
  }
  return absl::OkStatus();
}

absl::Status CheckShardsExist(const std::string& dir, const ShardList& shards) {
  constexpr size_t kMost = 5;
  std::vector<std::string> missing;
  for (const std::string& file : shards.files) {
    if (!FileExists(dir + "/" + file)) missing.push_back(file);
  }
  if (missing.empty()) return absl::OkStatus();
  const size_t count = missing.size();
  if (count > kMost) missing.resize(kMost);
  return NotFound("{}: {} of {} files that {} names are missing: {}{}", dir, count, shards.files.size(),
                  kIndex, fmt::join(missing, ", "), count > kMost ? ", ..." : "");
}

absl::StatusOr<ShardList> FromIndex(const std::string& dir) {
  const std::string path = dir + "/" + kIndex;
  ShardList shards;
  ASSIGN_OR_RETURN(shards.index_text, ReadFile(path, uint64_t{100} << 20));
  try {
    RETURN_IF_ERROR(Annotate(ReadWeightMap(json::parse(shards.index_text), shards), path));
  } catch (const json::exception& e) {
    return InvalidArgument("{}: expected JSON: {}", path, e.what());
  }
  std::set<std::string> names;
  for (const auto& [tensor, file] : shards.file_of_tensor) names.insert(file);
  shards.files.assign(names.begin(), names.end());
  RETURN_IF_ERROR(CheckShardsExist(dir, shards));
  return shards;
}

absl::StatusOr<ShardList> FromFolder(const std::string& dir) {
  ShardList shards;
  std::error_code error;
  std::filesystem::directory_iterator entries(dir, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (name.ends_with(".safetensors")) shards.files.push_back(name);
  }
  if (error) return NotFound("{}: {}", dir, error.message());
  if (shards.files.empty()) {
    return NotFound("{}: expected {}, {} or other *.safetensors files, found none", dir, kSingle, kIndex);
  }
  std::sort(shards.files.begin(), shards.files.end());
  return shards;
}

}  // namespace

absl::StatusOr<ShardList> ListShards(const std::string& dir) {
  // The manifest of model/shards, which is above this folder.
  if (FileExists(dir + "/fulger-shards.json")) {
    return FailedPrecondition(
        "{}: a copy that is cut for one layout, no checkpoint: serve, generate and plan know "
        "it, and fulger shard {} --verify looks at it; for anything else take the checkpoint that it was "
        "made from",
        dir, dir);
  }
  if (FileExists(dir + "/" + kSingle))
    return ShardList{.files = {kSingle}, .file_of_tensor = {}, .index_text = {}};
  if (FileExists(dir + "/" + kIndex)) return FromIndex(dir);
  return FromFolder(dir);
}

}  // namespace fulger
