#include "coordinator/saved/saved_requests.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>

#include "base/file.h"
#include "base/log.h"
#include "base/output_file.h"
#include "base/sha256.h"
#include "base/version.h"

namespace fulger {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kManifest = "manifest";
constexpr std::string_view kMagic = "fulger saved requests, format ";
constexpr std::string_view kFormat = "1";
constexpr std::string_view kPrefix = "saved-";
constexpr uint64_t kMaxManifest = uint64_t{2} << 30;  // of a protobuf message
// A folder without a manifest may be one that another server is writing just now.
constexpr int64_t kUnfinishedSeconds = 3600;

std::string ManifestPath(const std::string& folder) { return fmt::format("{}/{}", folder, kManifest); }

double Megabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

int64_t BytesIn(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto size = entry.file_size(error);
    if (!error) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

void Remove(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) LogWarn("{}: cannot be removed: {}", folder, error.message());
}

// Two lines, then the message.
std::string Pack(const v1::SavedManifest& manifest) {
  const std::string bytes = manifest.SerializeAsString();
  return fmt::format("{}{}\n{}\n{}", kMagic, kFormat, Sha256Hex(bytes), bytes);
}

absl::StatusOr<v1::SavedManifest> Unpack(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string file, ReadFile(path, kMaxManifest));
  const size_t first = file.find('\n');
  const size_t second = first == std::string::npos ? first : file.find('\n', first + 1);
  if (second == std::string::npos || !file.starts_with(kMagic)) {
    return DataLoss("{}: no manifest of saved requests", path);
  }
  if (const std::string format = file.substr(kMagic.size(), first - kMagic.size()); format != kFormat) {
    return FailedPrecondition("{}: format {}, this program reads {}", path, format, kFormat);
  }
  const std::string bytes = file.substr(second + 1);
  v1::SavedManifest manifest;
  if (Sha256Hex(bytes) != file.substr(first + 1, second - first - 1) || !manifest.ParseFromString(bytes)) {
    return DataLoss("{}: damaged: {} bytes with another SHA-256 than they were written with", path,
                    bytes.size());
  }
  return manifest;
}

}  // namespace

// Held by all requests in it.
struct SavedRequests::Folder {
  std::string path;
  std::atomic<int64_t> left{0};  // not given out
  ~Folder() {
    if (left > 0) return;
    LogInfo("{}: all of it goes on here: removed", path);
    Remove(path);
  }
};

int64_t SavedRequests::Now() const { return options_.now ? options_.now() : std::time(nullptr); }

absl::StatusOr<std::unique_ptr<SavedRequests>> SavedRequests::Open(const SavedRequestsOptions& given) {
  SavedRequestsOptions options = given;
  std::error_code error;
  options.dir = fs::absolute(options.dir, error).lexically_normal().string();
  fs::create_directories(options.dir, error);
  if (error) return FailedPrecondition("{}: cannot be made: {}", options.dir, error.message());
  std::unique_ptr<SavedRequests> saved(new SavedRequests(std::move(options)));
  const std::string& dir = saved->options_.dir;
  RETURN_IF_ERROR(saved->MeasureRate());
  LogInfo("{}: takes {:.0f} MB/s from one writer", dir, saved->bytes_per_second_ / 1e6);
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(dir, error)) {
    if (entry.is_directory(error) && entry.path().filename().string().starts_with(kPrefix)) {
      folders.push_back(entry.path().string());
    }
  }
  std::sort(folders.begin(), folders.end());
  for (const std::string& folder : folders) saved->Load(folder);
  return saved;
}

absl::Status SavedRequests::MeasureRate() {
  const std::string path = fmt::format("{}/.probe-{}", options_.dir, ::getpid());
  const auto measure = [&]() -> absl::Status {
    const std::vector<std::byte> bytes(options_.probe_bytes, std::byte{0x5a});
    ASSIGN_OR_RETURN(NewFile file, NewFile::Create(path));
    const auto begin = std::chrono::steady_clock::now();
    RETURN_IF_ERROR(file.Write(bytes));
    RETURN_IF_ERROR(file.Sync());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    bytes_per_second_ = static_cast<double>(bytes.size()) / std::max(seconds.count(), 1e-6);
    return absl::OkStatus();
  };
  ::unlink(path.c_str());
  const absl::Status status = measure();
  ::unlink(path.c_str());
  return Annotate(status, fmt::format("{}: cannot be written", options_.dir));
}

void SavedRequests::Load(const std::string& folder) {
  const int64_t bytes = BytesIn(folder);
  if (!FileExists(ManifestPath(folder))) {
    std::error_code error;
    const auto written = fs::last_write_time(folder, error);
    const auto age =
        std::chrono::duration_cast<std::chrono::seconds>(fs::file_time_type::clock::now() - written);
    const bool old = !error && age.count() > kUnfinishedSeconds;
    LogWarn("{}: {:.1f} MB of a server that was killed while it saved{}", folder, Megabytes(bytes),
            old ? ": removed" : ", or that is saving now: left alone");
    if (old) Remove(folder);
    return;
  }
  absl::StatusOr<v1::SavedManifest> manifest = Unpack(ManifestPath(folder));
  if (!manifest.ok()) {
    LogError("{} ({:.1f} MB beside it): its requests begin anew", Message(manifest.status()),
             Megabytes(bytes));
    return;
  }
  const int64_t age = Now() - manifest->created();
  if (age > options_.keep_seconds) {
    LogWarn("{}: {:.1f} MB and {} requests that nobody came back for in {} hours: removed", folder,
            Megabytes(bytes), manifest->requests_size(), age / 3600);
    Remove(folder);
    return;
  }
  if (manifest->fingerprint() != options_.model.fingerprint) {
    LogWarn("{}: {:.1f} MB and {} requests of another checkpoint: left alone", folder, Megabytes(bytes),
            manifest->requests_size());
    return;
  }
  AddAll(folder, *std::move(manifest));
}

void SavedRequests::AddAll(const std::string& folder, v1::SavedManifest manifest) {
  const SavedModel& own = options_.model;
  const bool same = manifest.plan_hash() == own.plan_hash && manifest.layout() == own.layout &&
                    manifest.block_size() == own.block_size && manifest.weights() == own.weights;
  if (!same) {
    LogWarn(
        "{}: states of {}, blocks of {}, weights {}; here it is {}, {}, {}: computed again from the tokens",
        folder, manifest.layout(), manifest.block_size(), manifest.weights(), own.layout, own.block_size,
        own.weights);
  }
  auto shared = std::make_shared<Folder>();
  shared->path = folder;
  shared->left = manifest.requests_size();
  int64_t tokens = 0, states = 0;
  for (v1::SavedRequest& request : *manifest.mutable_requests()) {
    tokens += request.tokens_size();
    if (!same) request.clear_state();
    if (request.has_state()) {
      ++states;
      request.mutable_state()->set_id(++states_);
      request.mutable_state()->set_folder(folder);
    }
    const std::string identity = request.identity();
    entries_.emplace(identity, Entry{.request = std::make_shared<const v1::SavedRequest>(std::move(request)),
                                     .folder = shared});
  }
  LogInfo("{}: {} requests, {} tokens, {} states, {:.1f} MB: each goes on when it comes again", folder,
          manifest.requests_size(), tokens, states, Megabytes(manifest.state_bytes()));
}

// The handle keeps the folder.
SavedRequests::Handle SavedRequests::Take(const std::string& identity) {
  std::lock_guard lock(mu_);
  const auto found = entries_.find(identity);
  if (found == entries_.end()) return nullptr;
  auto entry = std::make_shared<const Entry>(std::move(found->second));
  entries_.erase(found);
  --entry->folder->left;
  const v1::SavedRequest* request = entry->request.get();
  given_out_[request] = entry->folder;
  return {std::move(entry), request};
}

void SavedRequests::PutBack(Handle request) {
  std::lock_guard lock(mu_);
  const auto found = given_out_.find(request.get());
  if (found == given_out_.end()) return;
  const std::shared_ptr<Folder> folder = found->second.lock();
  given_out_.erase(found);
  if (folder == nullptr) return;
  ++folder->left;
  const std::string& identity = request->identity();
  entries_.emplace(identity, Entry{.request = std::move(request), .folder = folder});
}

int64_t SavedRequests::size() const {
  std::lock_guard lock(mu_);
  return std::ssize(entries_);
}

absl::StatusOr<std::string> SavedRequests::NewFolder() const {
  std::string folder = fmt::format("{}/{}{}-{}", options_.dir, kPrefix, Now(), ::getpid());
  std::error_code error;
  if (!fs::create_directory(folder, error)) {
    return FailedPrecondition("{}: cannot be made: {}", folder, error ? error.message() : "it exists");
  }
  fs::permissions(folder, fs::perms::owner_all, error);  // it will hold what users have said
  return folder;
}

absl::Status SavedRequests::Commit(const std::string& folder,
                                   const std::vector<v1::SavedRequest>& requests) const {
  if (requests.empty()) {
    Remove(folder);
    return absl::OkStatus();
  }
  v1::SavedManifest manifest;
  manifest.set_version(kVersion);
  manifest.set_plan_hash(options_.model.plan_hash);
  manifest.set_layout(options_.model.layout);
  manifest.set_fingerprint(options_.model.fingerprint);
  manifest.set_block_size(options_.model.block_size);
  manifest.set_weights(options_.model.weights);
  manifest.set_created(Now());
  manifest.set_state_bytes(BytesIn(folder));
  manifest.mutable_requests()->Add(requests.begin(), requests.end());
  absl::Status written = WriteFileDurably(ManifestPath(folder), Pack(manifest));
  if (!written.ok()) {
    // The states may have filled the disk; tokens are worth more than they.
    LogError("{}: {}: without the states", folder, Message(written));
    for (const auto& entry : fs::directory_iterator(folder)) Remove(entry.path().string());
    for (v1::SavedRequest& request : *manifest.mutable_requests()) request.clear_state();
    manifest.set_state_bytes(0);
    written = WriteFileDurably(ManifestPath(folder), Pack(manifest));
  }
  if (!written.ok()) Remove(folder);  // it would never be read
  return written;
}

}  // namespace fulger
