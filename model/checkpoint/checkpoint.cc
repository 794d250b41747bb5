#include "model/checkpoint/checkpoint.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/file.h"
#include "base/sha256.h"
#include "model/checkpoint/shards.h"

namespace fulger {
namespace {

struct Found {
  int file = -1;
  const StoredTensor* tensor = nullptr;
};
using NameIndex = std::unordered_map<std::string_view, Found>;

std::string NameOf(const SafetensorsFile& file) {
  const std::string& path = file.file().path();
  return path.substr(path.rfind('/') + 1);
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

absl::StatusOr<NameIndex> IndexNames(const std::vector<SafetensorsFile>& files) {
  NameIndex index;
  for (size_t f = 0; f < files.size(); ++f) {
    for (const StoredTensor& tensor : files[f].tensors()) {
      const auto [it, added] = index.try_emplace(tensor.name, Found{static_cast<int>(f), &tensor});
      if (!added) {
        return InvalidArgument("tensor {}: in both {} and {}", tensor.name,
                               NameOf(files[static_cast<size_t>(it->second.file)]), NameOf(files[f]));
      }
    }
  }
  return index;
}

// The scheme under which most of the model's tensors are there.
Naming GuessNaming(const ModelConfig& config, const std::vector<TensorSpec>& table, const NameIndex& index) {
  Naming best = Naming::kReleased;
  int64_t most = -1;
  for (const Naming naming : kNamings) {
    const int64_t count = std::count_if(table.begin(), table.end(), [&](const TensorSpec& spec) {
      return index.contains(Locate(config, spec, naming).name);
    });
    if (count > most) {
      most = count;
      best = naming;
    }
  }
  return best;
}

bool Usable(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16; }

// What does not fit about a stored tensor; expected is empty when all is well.
Audit::Misfit Compare(const TensorLocation& at, const Found& found, const std::string& file,
                      const std::map<std::string, std::string>& file_of_tensor) {
  Audit::Misfit misfit{.name = at.name, .file = file, .expected = {}, .found = {}};
  const StoredTensor& tensor = *found.tensor;
  const auto listed = file_of_tensor.find(at.name);
  if (tensor.shape != at.shape) {
    misfit.expected = ShapeText(at.shape);
    misfit.found = ShapeText(tensor.shape);
  } else if (!tensor.dtype || !Usable(*tensor.dtype)) {
    misfit.expected = "F32, BF16 or F16";
    misfit.found = tensor.dtype_name;
  } else if (!file_of_tensor.empty() && listed == file_of_tensor.end()) {
    misfit.expected = "an entry of the index's weight_map";
    misfit.found = "none";
  } else if (!file_of_tensor.empty() && listed->second != file) {
    misfit.expected = fmt::format("in {} as the index says", listed->second);
    misfit.found = fmt::format("in {}", file);
  }
  return misfit;
}

class Resolver {
 public:
  Resolver(const ModelConfig& config, const std::vector<TensorSpec>& table,
           const std::vector<SafetensorsFile>& files, const ShardList& shards)
      : config_(config), table_(table), files_(files), shards_(shards) {}

  // Fills one source per tensor of the table; status: the same name in two files.
  absl::Status Run(std::vector<TensorSource>& sources, Audit& audit) {
    ASSIGN_OR_RETURN(const NameIndex index, IndexNames(files_));
    audit.naming = GuessNaming(config_, table_, index);
    audit.expected = static_cast<int64_t>(table_.size());
    for (const TensorSpec& spec : table_) sources.push_back(Resolve(spec, index, audit));
    FindExtra(audit);
    return absl::OkStatus();
  }

 private:
  TensorSource Resolve(const TensorSpec& spec, const NameIndex& index, Audit& audit) {
    const TensorLocation at = Locate(config_, spec, audit.naming);
    const bool first = used_.insert(at.name).second;  // fused tensors are asked for once per expert
    const auto it = index.find(at.name);
    if (it == index.end()) {
      if (first) audit.missing.push_back(at.name);
      return {};
    }
    const std::string file = NameOf(files_[static_cast<size_t>(it->second.file)]);
    Audit::Misfit misfit = Compare(at, it->second, file, shards_.file_of_tensor);
    if (!misfit.expected.empty()) {
      if (first) audit.misfits.push_back(std::move(misfit));
      return {};
    }
    const StoredTensor& stored = *it->second.tensor;
    const auto size = static_cast<int64_t>(ByteSize(*stored.dtype));
    int64_t elements_before = 0;
    if (at.expert >= 0) {
      const int64_t per_row = at.shape[2];
      elements_before = (at.expert * at.shape[1] + at.row_begin) * per_row;
    }
    ++audit.resolved;
    audit.bytes[stored.dtype_name] += spec.elements() * size;
    return {it->second.file, stored.begin + static_cast<uint64_t>(elements_before * size), *stored.dtype};
  }

  void FindExtra(Audit& audit) {
    for (const SafetensorsFile& file : files_) {
      for (const StoredTensor& tensor : file.tensors()) {
        if (used_.contains(tensor.name)) continue;
        if (IsIgnorableTensor(tensor.name)) {
          ++audit.ignored;
        } else {
          audit.extra.push_back({tensor.name, NameOf(file)});
        }
      }
    }
  }

  const ModelConfig& config_;
  const std::vector<TensorSpec>& table_;
  const std::vector<SafetensorsFile>& files_;
  const ShardList& shards_;
  std::set<std::string> used_;
};

absl::StatusOr<std::string> MakeFingerprint(const std::string& dir, const ShardList& shards,
                                            const std::vector<SafetensorsFile>& files) {
  std::string config_text;
  if (FileExists(dir + "/config.json")) {
    ASSIGN_OR_RETURN(config_text, ReadFile(dir + "/config.json"));
  }
  Sha256 hash;
  // Lengths first, so that no two different folders give the same bytes.
  hash.Update(fmt::format("config {}\nindex {}\n", config_text.size(), shards.index_text.size()));
  hash.Update(config_text);
  hash.Update(shards.index_text);
  for (const SafetensorsFile& file : files) {
    hash.Update(fmt::format("{} {} {}\n", NameOf(file), file.file().size(), file.header_hash()));
  }
  return hash.HexDigest();
}

template <typename T, typename Describe>
void AppendSome(std::string& out, const std::vector<T>& items, size_t most, Describe describe) {
  for (size_t i = 0; i < std::min(items.size(), most); ++i) out += "\n  " + describe(items[i]);
  if (items.size() > most) out += fmt::format("\n  ... and {} more", items.size() - most);
}

std::string Describe(const Audit::Misfit& m) {
  return fmt::format("{} ({}): expected {}, found {}", m.name, m.file, m.expected, m.found);
}

}  // namespace

std::string ToString(const Audit& audit, size_t most) {
  std::string out =
      fmt::format("{} of {} tensors found, {} naming", audit.resolved, audit.expected, Name(audit.naming));
  for (const auto& [dtype, bytes] : audit.bytes) out += fmt::format(", {} bytes {}", bytes, dtype);
  if (audit.ignored > 0) out += fmt::format(", {} buffers ignored", audit.ignored);
  if (!audit.missing.empty()) {
    out += fmt::format("\n{} missing:", audit.missing.size());
    AppendSome(out, audit.missing, most, [](const std::string& name) { return name; });
  }
  if (!audit.misfits.empty()) {
    out += fmt::format("\n{} that do not fit:", audit.misfits.size());
    AppendSome(out, audit.misfits, most, Describe);
  }
  if (!audit.extra.empty()) {
    out += fmt::format("\n{} not of this model:", audit.extra.size());
    AppendSome(out, audit.extra, most,
               [](const Audit::Extra& e) { return fmt::format("{} ({})", e.name, e.file); });
  }
  return out;
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& dir, const ModelConfig& config) {
  Checkpoint c;
  c.dir_ = dir;
  c.table_ = TensorTable(config);
  ASSIGN_OR_RETURN(const ShardList shards, ListShards(dir));
  for (const std::string& name : shards.files) {
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(dir + "/" + name));
    c.files_.push_back(std::move(file));
  }
  Resolver resolver(config, c.table_, c.files_, shards);
  RETURN_IF_ERROR(Annotate(resolver.Run(c.sources_, c.audit_), dir));
  ASSIGN_OR_RETURN(c.fingerprint_, MakeFingerprint(dir, shards, c.files_));
  return c;
}

absl::Status Checkpoint::Complete() const {
  if (audit_.ok()) return absl::OkStatus();
  Audit wrong = audit_;
  wrong.extra.clear();
  return InvalidArgument("{}: {}", dir_, ToString(wrong, 3));
}

}  // namespace fulger
