#include "model/shards/source_identity.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/sha256.h"

namespace fulger {
namespace {

constexpr uint64_t kSamples = 16;
constexpr uint64_t kSampleBytes = 4096;

// Of what follows the header: a file of other weights differs there.
absl::StatusOr<std::string> SampleHash(const SafetensorsFile& file) {
  const uint64_t size = file.file().size();
  const uint64_t begin = file.tensors().empty() ? size : file.tensors().front().begin;
  Sha256 hash;
  std::string bytes;
  for (uint64_t i = 0; i < kSamples; ++i) {
    const uint64_t last = size - begin > kSampleBytes ? size - kSampleBytes : begin;
    const uint64_t at = begin + (last - begin) / (kSamples - 1) * i;
    bytes.resize(std::min(kSampleBytes, size - at));
    RETURN_IF_ERROR(file.file().ReadAt(at, std::as_writable_bytes(std::span(bytes))));
    hash.Update(bytes);
  }
  return hash.HexDigest();
}

struct FileTimes {
  uint64_t bytes = 0;
  int64_t mtime_ns = 0;
};
// False: there is none.
bool Look(const std::string& path, FileTimes* times) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return false;
  times->bytes = static_cast<uint64_t>(st.st_size);
  times->mtime_ns = int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
  return true;
}

absl::StatusOr<SourceFile> IdentifyFile(const SafetensorsFile& file) {
  const std::string& path = file.file().path();
  FileTimes times;
  if (!Look(path, &times)) return NotFound("{}: gone", path);
  ASSIGN_OR_RETURN(std::string sample, SampleHash(file));
  return SourceFile{.name = path.substr(path.rfind('/') + 1),
                    .bytes = file.file().size(),
                    .mtime_ns = times.mtime_ns,
                    .header_hash = file.header_hash(),
                    .sample_hash = std::move(sample)};
}

// Empty: the same. Else what is another.
absl::StatusOr<std::string> Difference(const std::string& path, const SourceFile& then) {
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  ASSIGN_OR_RETURN(const SourceFile now, IdentifyFile(file));
  if (now.header_hash != then.header_hash) return std::string("its header is another");
  if (now.sample_hash != then.sample_hash) return std::string("its weights are others");
  return std::string();
}

}  // namespace

absl::StatusOr<SourceIdentity> IdentifySource(const Checkpoint& checkpoint) {
  SourceIdentity source{.path = std::filesystem::absolute(checkpoint.dir()).lexically_normal().string(),
                        .fingerprint = checkpoint.Fingerprint(),
                        .config_hash = {},
                        .files = {}};
  ASSIGN_OR_RETURN(const std::string config, ReadFile(checkpoint.dir() + "/config.json"));
  source.config_hash = Sha256Hex(config);
  for (const SafetensorsFile& file : checkpoint.files()) {
    ASSIGN_OR_RETURN(SourceFile identity, IdentifyFile(file));
    source.files.push_back(std::move(identity));
  }
  return source;
}

absl::Status CheckSourceUnchanged(const SourceIdentity& source, std::string* note) {
  note->clear();
  const absl::StatusOr<std::string> config = ReadFile(source.path + "/config.json");
  if (!config.ok()) {
    *note = fmt::format("its source {} cannot be looked at: {}", source.path, Message(config.status()));
    return absl::OkStatus();
  }
  const auto stale = [&](std::string_view file, std::string_view what) {
    return FailedPrecondition("stale: its source {} has changed since: {}: {}", source.path, file, what);
  };
  if (Sha256Hex(*config) != source.config_hash) return stale("config.json", "another text");
  size_t gone = 0, touched = 0;
  for (const SourceFile& then : source.files) {
    const std::string path = source.path + "/" + then.name;
    FileTimes now;
    if (!Look(path, &now)) {
      ++gone;
    } else if (now.bytes != then.bytes) {
      return stale(then.name, fmt::format("expected {} bytes, found {}", then.bytes, now.bytes));
    } else if (now.mtime_ns != then.mtime_ns) {
      ++touched;
      const absl::StatusOr<std::string> difference = Difference(path, then);
      if (!difference.ok()) return stale(then.name, Message(difference.status()));
      if (!difference->empty()) return stale(then.name, *difference);
    }
  }
  if (gone > 0) {
    *note = fmt::format("{} of {} files of its source {} are gone", gone, source.files.size(), source.path);
  } else if (touched > 0) {
    *note = fmt::format("{} of {} files of its source {} have another time and the same samples", touched,
                        source.files.size(), source.path);
  }
  return absl::OkStatus();
}

}  // namespace fulger
