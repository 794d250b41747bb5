#include "model/shards/shard_writer.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/clock.h"
#include "base/file.h"
#include "base/output_file.h"
#include "base/version.h"
#include "model/shards/rank_file.h"
#include "model/shards/slice_writer.h"
#include "model/shards/small_files.h"
#include "model/shards/threads.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

double Since(TimePoint start) { return Seconds(std::chrono::steady_clock::now() - start); }

// Everything of a manifest but the sums.
absl::StatusOr<ShardManifest> Draft(const Checkpoint& checkpoint, const Plan& plan, int64_t block_bytes) {
  ShardManifest m;
  m.made_by = fmt::format("fulger {}", kVersion);
  m.layout = plan.layout;
  m.plan_hash = plan.hash;
  m.block_bytes = block_bytes;
  ASSIGN_OR_RETURN(m.source, IdentifySource(checkpoint));
  std::map<DType, int64_t> bytes;
  for (size_t i = 0; i < checkpoint.table().size(); ++i) {
    const DType dtype = checkpoint.source(i).dtype;
    bytes[dtype] += checkpoint.table()[i].elements() * static_cast<int64_t>(ByteSize(dtype));
  }
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  m.dtype = most->first;
  for (size_t i = 0; i < checkpoint.table().size(); ++i) {
    const DType dtype = checkpoint.source(i).dtype;
    if (dtype != m.dtype) m.other_dtypes[checkpoint.table()[i].name] = dtype;
  }
  m.ranks.resize(plan.ranks.size());
  return m;
}

// Where a folder keeps the same files is no difference, nor when they were written.
bool SameFiles(const SourceIdentity& a, const SourceIdentity& b) {
  const auto same = [](const SourceFile& x, const SourceFile& y) {
    return x.name == y.name && x.bytes == y.bytes && x.header_hash == y.header_hash &&
           x.sample_hash == y.sample_hash;
  };
  return a.fingerprint == b.fingerprint &&
         std::equal(a.files.begin(), a.files.end(), b.files.begin(), b.files.end(), same);
}

absl::Status CheckSameCopy(const std::string& out, const ShardManifest& there, const ShardManifest& wanted) {
  if (there.layout != wanted.layout) {
    return FailedPrecondition(
        "{}: holds a copy cut for {}, asked for is {}: choose another folder, or remove it first", out,
        ToString(there.layout), ToString(wanted.layout));
  }
  if (!SameFiles(there.source, wanted.source)) {
    return FailedPrecondition(
        "{}: stale: holds a copy of {} as it was before, and {} is another checkpoint now: remove "
        "the folder first",
        out, there.source.path, wanted.source.path);
  }
  if (there.plan_hash != wanted.plan_hash || there.block_bytes != wanted.block_bytes) {
    return FailedPrecondition("{}: holds a copy that {} made in another way: remove the folder first", out,
                              there.made_by);
  }
  return absl::OkStatus();
}

struct Unfinished {
  ShardManifest copy;
  std::vector<int> ranks;  // whose files were begun
  size_t tensors = 0;      // of the table, from the first: written in all of them and on the disk
};

absl::Status WriteUnfinished(const std::string& out, const Unfinished& u) {
  const Json json = {{"tensors", u.tensors}, {"ranks", u.ranks}, {"copy", Json::parse(ToJson(u.copy))}};
  return WriteFileDurably(out + "/" + kUnfinishedName, json.dump(1) + "\n");
}

absl::StatusOr<Unfinished> ReadUnfinished(const std::string& out) {
  const std::string path = out + "/" + kUnfinishedName;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  try {
    const Json json = Json::parse(text);
    Unfinished u{.copy = {},
                 .ranks = json.at("ranks").get<std::vector<int>>(),
                 .tensors = json.at("tensors").get<size_t>()};
    ASSIGN_OR_RETURN(u.copy, ParseManifest(json.at("copy").dump()));
    return u;
  } catch (const nlohmann::json::exception& e) {
    return DataLoss("{}: {}; remove the folder", path, e.what());
  }
}

// -1: no such file.
int64_t SizeOf(const std::string& path, int64_t* on_disk = nullptr) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return -1;
  if (on_disk != nullptr) *on_disk = int64_t{st.st_blocks} * 512;
  return st.st_size;
}

class Copying {
 public:
  Copying(const Checkpoint& checkpoint, const Plan& plan, std::string out, const ShardOptions& options)
      : checkpoint_(checkpoint), plan_(plan), out_(std::move(out)), options_(options) {}

  absl::StatusOr<ShardReport> Run() {
    RETURN_IF_ERROR(checkpoint_.Complete());
    std::error_code error;
    if (std::filesystem::equivalent(out_, checkpoint_.dir(), error)) {
      return InvalidArgument("{}: the copy needs a folder of its own", out_);
    }
    ASSIGN_OR_RETURN(manifest_, Draft(checkpoint_, plan_, options_.block_bytes));
    const std::vector<DType> stored = manifest_.Stored(checkpoint_.table());
    for (const RankPlan& rank : plan_.ranks) {
      forms_.push_back(MakeRankFileForm(checkpoint_.table(), rank, stored, options_.block_bytes));
      manifest_.ranks[forms_.size() - 1].bytes = forms_.back().bytes;
      report_.bytes += forms_.back().bytes;
    }
    RETURN_IF_ERROR(LookAtFolder());
    if (missing_.empty() && IsSharded(out_)) {
      RemoveUnfinished();
      return report_;
    }
    ASSIGN_OR_RETURN(small_, FindSmallFiles(checkpoint_.dir()));
    RETURN_IF_ERROR(CheckSpace());
    std::filesystem::create_directories(out_, error);
    if (error) return Unavailable("{}: {}", out_, error.message());
    RETURN_IF_ERROR(WriteTensors());
    RETURN_IF_ERROR(Finish());
    report_.seconds = Since(start_);
    return report_;
  }

 private:
  std::string Final(size_t rank) const { return out_ + "/" + forms_[rank].name; }
  std::string Partial(size_t rank) const { return Final(rank) + ".partial"; }

  // What is there already, and whether it is of this copy.
  absl::Status LookAtFolder() {
    if (IsSharded(out_)) {
      ASSIGN_OR_RETURN(const ShardedCopy there, OpenSharded(out_));
      RETURN_IF_ERROR(CheckSameCopy(out_, there.manifest, manifest_));
      manifest_.ranks = there.manifest.ranks;
    } else if (!FileExists(out_ + "/" + kUnfinishedName)) {
      RETURN_IF_ERROR(CheckNoWeightsThere());
    }
    for (size_t r = 0; r < forms_.size(); ++r) {
      const int64_t size = SizeOf(Final(r));
      if (size >= 0 && static_cast<uint64_t>(size) != forms_[r].bytes) {
        return DataLoss("{}: expected {} bytes, found {}: remove it, then it is written again", Final(r),
                        forms_[r].bytes, size);
      }
      if (size < 0) missing_.push_back(static_cast<int>(r));
    }
    report_.ranks_written = static_cast<int>(missing_.size());
    report_.ranks_kept = static_cast<int>(forms_.size() - missing_.size());
    if (!FileExists(out_ + "/" + kUnfinishedName)) return absl::OkStatus();
    ASSIGN_OR_RETURN(const Unfinished u, ReadUnfinished(out_));
    RETURN_IF_ERROR(CheckSameCopy(out_, u.copy, manifest_));
    for (const int r : missing_) {
      const bool begun = std::find(u.ranks.begin(), u.ranks.end(), r) != u.ranks.end();
      const int64_t size = SizeOf(Partial(static_cast<size_t>(r)));
      if (!begun || static_cast<uint64_t>(size) != forms_[static_cast<size_t>(r)].bytes)
        return absl::OkStatus();
    }
    done_ = std::min(u.tensors, checkpoint_.table().size());
    return absl::OkStatus();
  }

  absl::Status CheckNoWeightsThere() const {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(out_, error)) {
      if (entry.path().extension() == ".safetensors") {
        return FailedPrecondition(
            "{}: holds {}, which is of no copy that this program made: choose another folder", out_,
            entry.path().filename().string());
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckSpace() const {
    Room room{.files = missing_.size(), .small = small_.bytes};
    for (const int r : missing_) {
      room.bytes += static_cast<int64_t>(forms_[static_cast<size_t>(r)].bytes);
      int64_t on_disk = 0;
      if (SizeOf(Partial(static_cast<size_t>(r)), &on_disk) >= 0) room.there += on_disk;
    }
    room.there = std::min(room.there, room.bytes);
    std::filesystem::path folder = std::filesystem::absolute(out_);
    while (!FileExists(folder.string()) && folder != folder.parent_path()) folder = folder.parent_path();
    struct statvfs fs {};
    if (::statvfs(folder.c_str(), &fs) != 0) return ErrnoStatus(folder.string(), "statvfs", errno);
    room.free = static_cast<int64_t>(fs.f_bavail * fs.f_frsize);
    return CheckRoom(out_, room);
  }

  absl::Status WriteTensors() {
    std::vector<RankOutput> outputs;
    for (const int rank : missing_) {
      const auto r = static_cast<size_t>(rank);
      ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(Partial(r)));
      RETURN_IF_ERROR(file.Resize(forms_[r].bytes));
      RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(forms_[r].head))));
      outputs.push_back({forms_[r], std::move(file)});
    }
    SliceWriter writer(checkpoint_, outputs, options_.block_bytes, options_.chunk_bytes,
                       [this](int64_t bytes) { read_ += bytes; });
    for (size_t i = 0; i < checkpoint_.table().size(); ++i) {
      total_ += writer.BytesToRead(i);
      if (i < done_) report_.bytes_resumed += writer.BytesToRead(i);
    }
    Unfinished u{.copy = manifest_, .ranks = missing_, .tensors = done_};
    RETURN_IF_ERROR(WriteUnfinished(out_, u));
    while (u.tensors < checkpoint_.table().size()) {
      size_t end = u.tensors;
      for (int64_t bytes = 0; end < checkpoint_.table().size() && bytes < options_.commit_bytes; ++end) {
        bytes += writer.BytesToRead(end);
      }
      RETURN_IF_ERROR(RunOnThreads(
          options_.threads, end - u.tensors, [&](size_t i) { return writer.Write(u.tensors + i); },
          [this] { return Report(); }));
      for (const RankOutput& output : outputs) RETURN_IF_ERROR(output.file.Sync());
      u.tensors = end;
      RETURN_IF_ERROR(WriteUnfinished(out_, u));
    }
    report_.bytes_read = read_;
    return absl::OkStatus();
  }

  absl::Status Report() const {
    if (!options_.progress) return absl::OkStatus();
    const ShardProgress p = MakeShardProgress(report_.bytes_resumed, read_, total_, Since(start_));
    if (options_.progress(p)) return absl::OkStatus();
    return Cancelled("stopped after {} of {} bytes; the same command goes on", p.bytes_done, p.bytes_total);
  }

  absl::Status Finish() {
    for (const int rank : missing_) {
      RETURN_IF_ERROR(RenameDurably(Partial(static_cast<size_t>(rank)), Final(static_cast<size_t>(rank))));
    }
    const bool repaired = IsSharded(out_);  // then the sums of files that were kept are known
    for (size_t r = 0; r < forms_.size(); ++r) {
      if (repaired && std::find(missing_.begin(), missing_.end(), static_cast<int>(r)) == missing_.end())
        continue;
      ASSIGN_OR_RETURN(const File file, File::Open(Final(r)));
      std::vector<BlockSum> sums(static_cast<size_t>(forms_[r].blocks));
      RETURN_IF_ERROR(file.ReadAt(forms_[r].sum_offset(0), std::as_writable_bytes(std::span(sums))));
      manifest_.ranks[r].sums = SumOf(std::as_bytes(std::span(sums)));
    }
    RETURN_IF_ERROR(CopySmallFiles(small_, checkpoint_.dir(), out_));
    RETURN_IF_ERROR(WriteFileDurably(out_ + "/" + kManifestName, ToJson(manifest_)));
    RemoveUnfinished();
    return absl::OkStatus();
  }

  // The manifest is what counts.
  void RemoveUnfinished() const {
    std::error_code error;
    std::filesystem::remove(out_ + "/" + kUnfinishedName, error);
  }

  const Checkpoint& checkpoint_;
  const Plan& plan_;
  const std::string out_;
  const ShardOptions& options_;
  const TimePoint start_ = std::chrono::steady_clock::now();
  ShardManifest manifest_;
  std::vector<RankFileForm> forms_;
  std::vector<int> missing_;  // ranks whose files are to be written
  SmallFiles small_;
  size_t done_ = 0;  // tensors of an earlier call
  std::atomic<int64_t> read_{0};
  int64_t total_ = 0;
  ShardReport report_;
};

}  // namespace

ShardProgress MakeShardProgress(int64_t before, int64_t now, int64_t total, double seconds) {
  ShardProgress p{.bytes_done = before + now, .bytes_total = total};
  if (now <= 0 || seconds <= 0) return p;
  p.bytes_per_second = static_cast<double>(now) / seconds;
  p.seconds_left = static_cast<double>(total - p.bytes_done) / p.bytes_per_second;
  return p;
}

absl::Status CheckRoom(const std::string& out, const Room& room) {
  const int64_t need = room.bytes + room.small - room.there;
  if (need <= room.free) return absl::OkStatus();
  return ResourceExhausted(
      "{}: too little room: {} rank files of together {} bytes, and {} bytes of config and tokenizer, less "
      "{} that "
      "are there already: {} bytes needed, {} free, {} short",
      out, room.files, room.bytes, room.small, room.there, need, room.free, need - room.free);
}

absl::StatusOr<ShardReport> WriteShards(const Checkpoint& checkpoint, const Plan& plan,
                                        const std::string& out, const ShardOptions& options) {
  return Copying(checkpoint, plan, out, options).Run();
}

}  // namespace fulger
