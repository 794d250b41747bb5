// Files and batches on disk, in SQLite: what a coordinator that starts again goes on with.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

struct sqlite3;

namespace fulger {

struct StoredFile {
  std::string id;
  std::string owner;  // the client's name; others do not see it
  std::string name;
  std::string purpose;
  int64_t bytes = 0;
  int64_t created = 0;  // seconds since 1970, as all times here
};

struct Batch {
  std::string id;
  std::string owner;
  std::string endpoint;
  std::string input_file;
  std::string window = "24h";
  std::string metadata;                 // JSON, or empty
  std::string status = "in_progress";   // failed | in_progress | completed | expired | cancelling | cancelled
  std::string errors;                   // JSON list of what was wrong with the file, or empty
  std::string output_file, error_file;  // empty until there is one
  int64_t created = 0, expires = 0, cancelling = 0;
  int64_t ended = 0;  // when it got its last status
  // Of its lines; not stored.
  int64_t total = 0, completed = 0, failed = 0;
};

struct BatchLine {
  std::string batch;
  int64_t number = 0;
  std::string custom_id;
  std::string body;  // JSON
};

// Thread-safe. Every change is on disk when its call returns OK.
class JobStore {
 public:
  static constexpr int kVersion = 1;  // of the tables

  // Makes the database where there is none. FAILED_PRECONDITION: it is of a newer version, or another process
  // has it; INVALID_ARGUMENT: the file is no such database.
  static absl::StatusOr<std::unique_ptr<JobStore>> Open(const std::string& path);
  ~JobStore();
  JobStore(const JobStore&) = delete;
  JobStore& operator=(const JobStore&) = delete;

  absl::Status AddFile(const StoredFile& file, std::string_view content);
  // NOT_FOUND unless `owner` has it.
  absl::StatusOr<StoredFile> File(const std::string& id, const std::string& owner);
  absl::StatusOr<std::string> FileContent(const std::string& id, const std::string& owner);
  absl::Status RemoveFile(const std::string& id, const std::string& owner);
  // The newest first; those older than `after`, if given.
  absl::StatusOr<std::vector<StoredFile>> Files(const std::string& owner, int64_t limit,
                                                const std::string& after);

  // A batch and its lines, all or nothing.
  absl::Status AddBatch(const Batch& batch, const std::vector<BatchLine>& lines);
  absl::StatusOr<Batch> FindBatch(const std::string& id, const std::string& owner);
  absl::StatusOr<std::vector<Batch>> Batches(const std::string& owner, int64_t limit,
                                             const std::string& after);
  // Asks for an end; FAILED_PRECONDITION when it has one.
  absl::Status CancelBatch(const std::string& id, const std::string& owner, int64_t now);

  // For the runner, of all owners. Those in_progress or cancelling, the oldest first.
  absl::StatusOr<std::vector<Batch>> OpenBatches();
  // Lines without a result, from `first` on.
  absl::StatusOr<std::vector<BatchLine>> OpenLines(const std::string& batch, int64_t first, int64_t limit);
  // The result of a line (one JSON object), once: a second one is ignored.
  absl::Status FinishLine(const std::string& batch, int64_t number, bool ok, const std::string& result);
  // Gives the batch its last status, and makes files of its lines' results, in the order of the lines.
  absl::Status EndBatch(const Batch& batch, const std::string& status, const std::string& output_id,
                        const std::string& error_id, int64_t now);

 private:
  class Statement;
  explicit JobStore(std::string path) : path_(std::move(path)) {}
  absl::Status Prepare();
  absl::Status Execute(const char* sql);
  absl::Status Error(const char* what) const;
  absl::StatusOr<Batch> ReadBatch(Statement* row);
  absl::StatusOr<std::string> Results(const std::string& batch, bool ok, int64_t* count);
  absl::Status InsertFile(const StoredFile& file, std::string_view content);

  const std::string path_;
  std::mutex mu_;
  sqlite3* db_ = nullptr;
};

}  // namespace fulger
