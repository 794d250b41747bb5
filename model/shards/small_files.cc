#include "model/shards/small_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "base/file.h"
#include "base/output_file.h"

namespace fulger {
namespace {

constexpr uint64_t kMostBytes = uint64_t{64} << 20;

bool HoldsWeights(std::string_view name) {
  constexpr std::array<std::string_view, 8> kSuffixes = {".safetensors", ".index.json", ".bin", ".pt",
                                                         ".pth",         ".gguf",       ".h5",  ".partial"};
  return std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

}  // namespace

absl::StatusOr<SmallFiles> FindSmallFiles(const std::string& dir) {
  SmallFiles files;
  std::error_code error;
  std::filesystem::directory_iterator entries(dir, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    std::error_code no_size;
    const bool regular = entries->is_regular_file(no_size);  // through links, as snapshots have them
    const uint64_t size = regular ? entries->file_size(no_size) : 0;
    if (!regular || no_size || name.starts_with('.') || HoldsWeights(name) || size > kMostBytes) continue;
    files.names.push_back(name);
    files.bytes += static_cast<int64_t>(size);
  }
  if (error) return Unavailable("{}: {}", dir, error.message());
  std::sort(files.names.begin(), files.names.end());
  return files;
}

absl::Status CopySmallFiles(const SmallFiles& files, const std::string& from, const std::string& to) {
  for (const std::string& name : files.names) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(from + "/" + name, kMostBytes));
    RETURN_IF_ERROR(WriteFileDurably(to + "/" + name, text));
  }
  return absl::OkStatus();
}

}  // namespace fulger
