// Requests that run over the end of a job: a folder of files for each time that a server was suspended. The
// ranks write states there, the coordinator a manifest, last, which makes the folder whole. The next server
// reads the manifests and gives each request out once, to the same request when it comes again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "fulger/v1/saved.pb.h"

namespace fulger {

// Whose tokens and states they are. Tokens of the same checkpoint hold in any layout, states in the same
// only.
struct SavedModel {
  std::string fingerprint;
  std::string plan_hash;
  std::string layout;  // in words, with the formats that weights are held in
  int64_t block_size = 0;
  std::string weights;  // their element type
};

struct SavedRequestsOptions {
  std::string dir;  // on a file system that every rank sees under this name
  SavedModel model{};
  int64_t keep_seconds = int64_t{72} * 3600;  // what nobody came back for is removed
  std::function<int64_t()> now{};             // seconds since 1970; empty: the system's
  size_t probe_bytes = size_t{32} << 20;      // written to see how fast that goes
};

// Thread-safe.
class SavedRequests {
 public:
  // Makes the folder where there is none, measures how fast it takes bytes, and reads what is there: damaged,
  // unfinished and foreign manifests are told in the log and left alone. An error: nothing can be saved
  // there.
  static absl::StatusOr<std::unique_ptr<SavedRequests>> Open(const SavedRequestsOptions& options);

  // What there is of the answer to this request, given out once; null: nothing. Its folder is removed when
  // all requests in it were given out and no one holds one of them (or its state) any more.
  using Handle = std::shared_ptr<const v1::SavedRequest>;
  Handle Take(const std::string& identity);
  // It could not be used after all.
  void PutBack(Handle request);
  int64_t size() const;  // not given out yet

  // A new folder for ranks to write into.
  absl::StatusOr<std::string> NewFolder() const;
  // The manifest of the folder that they have written: from now on the requests can be had. Without any, the
  // folder is removed.
  absl::Status Commit(const std::string& folder, const std::vector<v1::SavedRequest>& requests) const;

  double bytes_per_second() const { return bytes_per_second_; }

 private:
  struct Folder;
  struct Entry {
    std::shared_ptr<const v1::SavedRequest> request;
    std::shared_ptr<Folder> folder;
  };

  explicit SavedRequests(SavedRequestsOptions options) : options_(std::move(options)) {}
  int64_t Now() const;
  absl::Status MeasureRate();
  void Load(const std::string& folder);
  void AddAll(const std::string& folder, v1::SavedManifest manifest);

  const SavedRequestsOptions options_;
  double bytes_per_second_ = 0;
  uint64_t states_ = 0;
  mutable std::mutex mu_;
  std::multimap<std::string, Entry> entries_;  // by identity
  std::map<const v1::SavedRequest*, std::weak_ptr<Folder>> given_out_;
};

}  // namespace fulger
