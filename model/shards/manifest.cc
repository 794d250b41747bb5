#include "model/shards/manifest.h"

#include <fmt/ranges.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"
#include "base/sha256.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr int kMostRanks = 4096;

Json LayoutJson(const Layout& layout) {
  return {{"tp", layout.tp},
          {"pp", layout.pp},
          {"ep", layout.ep},
          {"dp", layout.dp},
          {"vision", layout.vision},
          {"stage_layers", layout.stage_layers},
          {"experts", Name(layout.experts)},
          {"projections", Name(layout.projections)}};
}

absl::StatusOr<Layout> ParseLayout(const Json& json) {
  const auto format = [&json](const char* kind) {
    return WeightFormatFromName(kind, json.at(kind).get<std::string>());
  };
  ASSIGN_OR_RETURN(const WeightFormat experts, format("experts"));
  ASSIGN_OR_RETURN(const WeightFormat projections, format("projections"));
  return Layout{.pp = json.at("pp").get<int>(),
                .tp = json.at("tp").get<int>(),
                .ep = json.at("ep").get<int>(),
                .dp = json.at("dp").get<int>(),
                .vision = json.at("vision").get<int>(),
                .stage_layers = json.at("stage_layers").get<std::vector<int>>(),
                .experts = experts,
                .projections = projections};
}

absl::StatusOr<DType> ParseDType(const std::string& name) {
  const auto dtype = DTypeFromName(name);
  if (!dtype) return InvalidArgument("unknown element type {}", name);
  return *dtype;
}

absl::StatusOr<BlockSum> ParseSum(const std::string& hex) {
  BlockSum sum;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (hex.size() != 2 * sum.size())
    return InvalidArgument("checksum {}: expected 32 hexadecimal digits", hex);
  for (size_t i = 0; i < sum.size(); ++i) {
    const int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return InvalidArgument("checksum {}: expected 32 hexadecimal digits", hex);
    sum[i] = static_cast<std::byte>(high * 16 + low);
  }
  return sum;
}

SourceIdentity ParseSource(const Json& json) {
  SourceIdentity source{.path = json.at("path").get<std::string>(),
                        .fingerprint = json.at("fingerprint").get<std::string>(),
                        .config_hash = json.at("config").get<std::string>(),
                        .files = {}};
  for (const Json& file : json.at("files")) {
    source.files.push_back({.name = file.at("name").get<std::string>(),
                            .bytes = file.at("bytes").get<uint64_t>(),
                            .mtime_ns = file.at("mtime_ns").get<int64_t>(),
                            .header_hash = file.at("header").get<std::string>(),
                            .sample_hash = file.at("samples").get<std::string>()});
  }
  return source;
}

absl::StatusOr<ShardManifest> Parse(const Json& json) {
  const int format = json.at("format").get<int>();
  if (format != kFormat) {
    return InvalidArgument("format: expected {}, found {}: made by another version ({}); make the copy again",
                           kFormat, format, json.value("made_by", ""));
  }
  const std::string algorithm = json.at("checksum").at("algorithm").get<std::string>();
  if (algorithm != kBlockSumName) {
    return InvalidArgument("checksum algorithm: expected {}, found {}", kBlockSumName, algorithm);
  }
  ShardManifest m;
  m.made_by = json.at("made_by").get<std::string>();
  ASSIGN_OR_RETURN(m.layout, ParseLayout(json.at("layout")));
  m.plan_hash = json.at("plan_hash").get<std::string>();
  m.block_bytes = json.at("checksum").at("block_bytes").get<int64_t>();
  if (m.block_bytes < 4 || m.block_bytes > int64_t{1} << 30 || m.block_bytes % 4 != 0) {
    return InvalidArgument("checksum block_bytes: expected a multiple of 4 up to 2^30, found {}",
                           m.block_bytes);
  }
  m.source = ParseSource(json.at("source"));
  ASSIGN_OR_RETURN(m.dtype, ParseDType(json.at("dtype").get<std::string>()));
  for (const auto& [name, dtype] : json.at("other_dtypes").items()) {
    ASSIGN_OR_RETURN(m.other_dtypes[name], ParseDType(dtype.get<std::string>()));
  }
  for (const Json& rank : json.at("ranks")) {
    ASSIGN_OR_RETURN(const BlockSum sums, ParseSum(rank.at("sums").get<std::string>()));
    m.ranks.push_back({.bytes = rank.at("bytes").get<uint64_t>(), .sums = sums});
  }
  if (m.ranks.size() > kMostRanks) return InvalidArgument("ranks: expected at most {}", kMostRanks);
  return m;
}

// The flags that make the layout.
std::string FlagsOf(const Layout& layout) {
  std::string flags = fmt::format("--tp {} --pp {} --ep {}", layout.tp, layout.pp, layout.ep);
  if (layout.vision > 0) flags += fmt::format(" --vision-ranks {}", layout.vision);
  if (!layout.stage_layers.empty())
    flags += fmt::format(" --stage-layers {}", fmt::join(layout.stage_layers, ","));
  if (layout.experts != WeightFormat::kStored) flags += fmt::format(" --experts {}", Name(layout.experts));
  if (layout.projections != WeightFormat::kStored) {
    flags += fmt::format(" --projections {}", Name(layout.projections));
  }
  return flags;
}

}  // namespace

std::vector<DType> ShardManifest::Stored(const std::vector<TensorSpec>& table) const {
  std::vector<DType> stored(table.size(), dtype);
  for (size_t i = 0; i < table.size(); ++i) {
    if (const auto it = other_dtypes.find(table[i].name); it != other_dtypes.end()) stored[i] = it->second;
  }
  return stored;
}

bool IsSharded(const std::string& dir) { return FileExists(dir + "/" + kManifestName); }
bool IsUnfinishedSharded(const std::string& dir) {
  return !IsSharded(dir) && FileExists(dir + "/" + kUnfinishedName);
}

std::string ToJson(const ShardManifest& m) {
  Json json = {{"format", kFormat},
               {"made_by", m.made_by},
               {"layout", LayoutJson(m.layout)},
               {"plan_hash", m.plan_hash},
               {"checksum", {{"algorithm", kBlockSumName}, {"block_bytes", m.block_bytes}}},
               {"dtype", Name(m.dtype)},
               {"other_dtypes", Json::object()},
               {"ranks", Json::array()},
               {"source",
                {{"path", m.source.path},
                 {"fingerprint", m.source.fingerprint},
                 {"config", m.source.config_hash},
                 {"files", Json::array()}}}};
  for (const auto& [name, dtype] : m.other_dtypes) json["other_dtypes"][name] = Name(dtype);
  for (const ShardManifest::Rank& rank : m.ranks) {
    json["ranks"].push_back({{"bytes", rank.bytes}, {"sums", ToHex(rank.sums)}});
  }
  for (const SourceFile& file : m.source.files) {
    json["source"]["files"].push_back({{"name", file.name},
                                       {"bytes", file.bytes},
                                       {"mtime_ns", file.mtime_ns},
                                       {"header", file.header_hash},
                                       {"samples", file.sample_hash}});
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<ShardManifest> ParseManifest(const std::string& text) {
  try {
    return Parse(Json::parse(text));
  } catch (const nlohmann::json::exception& e) {
    return DataLoss("not a manifest of this format: {}", e.what());
  }
}

absl::StatusOr<ShardedCopy> OpenSharded(const std::string& dir) {
  const std::string path = dir + "/" + kManifestName;
  if (IsUnfinishedSharded(dir)) {
    return FailedPrecondition(
        "{}: an unfinished copy: run the same fulger shard again, it goes on where it stopped", dir);
  }
  ShardedCopy copy;
  copy.dir = dir;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, uint64_t{64} << 20));
  absl::StatusOr<ShardManifest> manifest = ParseManifest(text);
  if (!manifest.ok()) return Annotate(manifest.status(), path);
  copy.manifest = *std::move(manifest);
  ASSIGN_OR_RETURN(copy.config, LoadModelConfig(dir));
  ASSIGN_OR_RETURN(copy.plan, MakePlan(copy.config, copy.manifest.layout));
  if (copy.plan.hash != copy.manifest.plan_hash) {
    return FailedPrecondition(
        "{}: config.json gives plan {}, the rank files were cut by {}: one of the two is of "
        "another model or version",
        dir, copy.plan.hash.substr(0, 12), copy.manifest.plan_hash.substr(0, 12));
  }
  if (copy.manifest.ranks.size() != copy.plan.ranks.size()) {
    return DataLoss("{}: expected {} ranks, found {}", path, copy.plan.ranks.size(),
                    copy.manifest.ranks.size());
  }
  copy.table = TensorTable(copy.config);
  copy.stored = copy.manifest.Stored(copy.table);
  ASSIGN_OR_RETURN(const std::string config_text, ReadFile(dir + "/config.json"));
  copy.fingerprint = Sha256Hex(fmt::format("shards {}\n{}{}", text.size(), text, config_text));
  return copy;
}

absl::StatusOr<RankFile> OpenRankFile(const ShardedCopy& copy, int rank) {
  const auto r = static_cast<size_t>(rank);
  return RankFile::Open(
      copy.dir, MakeRankFileForm(copy.table, copy.plan.ranks[r], copy.stored, copy.manifest.block_bytes),
      copy.manifest.block_bytes, copy.manifest.ranks[r].sums);
}

absl::Status CheckLayout(const ShardedCopy& copy, const Layout& layout) {
  // Stages of as many layers as the even split gives are the even split.
  const absl::StatusOr<Plan> plan = MakePlan(copy.config, layout);
  if (layout == copy.manifest.layout || (plan.ok() && plan->ranks == copy.plan.ranks))
    return absl::OkStatus();
  const std::string& source = copy.manifest.source.path;
  return FailedPrecondition(
      "{}: its files are cut for {}, asked for is {}: leave out the flags of the layout to serve it as it "
      "is, serve "
      "{} with any layout, or make another copy: fulger shard {} --out DIR {}",
      copy.dir, ToString(copy.manifest.layout), ToString(layout), source, source, FlagsOf(layout));
}

absl::Status CheckRankFilesThere(const ShardedCopy& copy) {
  for (const RankPlan& rank : copy.plan.ranks) {
    const RankFileForm form = MakeRankFileForm(copy.table, rank, copy.stored, copy.manifest.block_bytes);
    const std::string path = copy.dir + "/" + form.name;
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) {
      return NotFound("{}: not there; fulger shard {} --out {} {} makes it again", path,
                      copy.manifest.source.path, copy.dir, FlagsOf(copy.manifest.layout));
    }
    if (static_cast<uint64_t>(st.st_size) != form.bytes) {
      return DataLoss(
          "{}: expected {} bytes, found {}; remove it, then fulger shard {} --out {} {} makes it again", path,
          form.bytes, st.st_size, copy.manifest.source.path, copy.dir, FlagsOf(copy.manifest.layout));
    }
  }
  return absl::OkStatus();
}

}  // namespace fulger
