#include "coordinator/jobs/job_store.h"

#include <sqlite3.h>

#include "base/check.h"

namespace fulger {
namespace {

constexpr int kApplicationId = 0x46756c67;  // "Fulg"

constexpr char kTables[] = R"(
CREATE TABLE files (
  id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL,
  created INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE batches (
  id TEXT PRIMARY KEY, owner TEXT NOT NULL, endpoint TEXT NOT NULL, input_file TEXT NOT NULL, window TEXT NOT NULL,
  metadata TEXT NOT NULL, status TEXT NOT NULL, errors TEXT NOT NULL, output_file TEXT NOT NULL,
  error_file TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, cancelling INTEGER NOT NULL,
  ended INTEGER NOT NULL);
CREATE TABLE lines (
  batch TEXT NOT NULL REFERENCES batches(id), number INTEGER NOT NULL, custom_id TEXT NOT NULL, body TEXT NOT NULL,
  ok INTEGER, result TEXT, PRIMARY KEY (batch, number)) WITHOUT ROWID;
)";

constexpr char kBatchColumns[] =
    "SELECT id, owner, endpoint, input_file, window, metadata, status, errors, output_file, error_file, "
    "created, "
    "expires, cancelling, ended, (SELECT count(*) FROM lines WHERE batch = id), "
    "(SELECT count(*) FROM lines WHERE batch = id AND ok = 1), (SELECT count(*) FROM lines WHERE batch = id "
    "AND ok = 0) "
    "FROM batches ";

}  // namespace

// One prepared statement, for one use.
class JobStore::Statement {
 public:
  Statement(JobStore* store, const std::string& sql) : store_(store) {
    error_ = sqlite3_prepare_v2(store->db_, sql.c_str(), -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(std::string_view text) {
    if (error_ == SQLITE_OK) {
      error_ =
          sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    }
    return *this;
  }
  Statement& Bind(int64_t number) {
    if (error_ == SQLITE_OK) error_ = sqlite3_bind_int64(statement_, ++bound_, number);
    return *this;
  }
  // `bytes` must stay until the statement has run.
  Statement& BindBlob(std::string_view bytes) {
    if (error_ == SQLITE_OK) {
      error_ = sqlite3_bind_blob64(statement_, ++bound_, bytes.data(), bytes.size(), SQLITE_STATIC);
    }
    return *this;
  }

  // True: there is a row.
  absl::StatusOr<bool> Step() {
    if (error_ == SQLITE_OK) error_ = sqlite3_step(statement_);
    const int result = std::exchange(error_, SQLITE_OK);
    if (result == SQLITE_ROW) return true;
    if (result == SQLITE_DONE) return false;
    return store_->Error("a statement");
  }
  absl::Status Run() { return Step().status(); }

  std::string Text(int column) const {
    const auto* text = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return text == nullptr ? std::string()
                           : std::string(text, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }
  int64_t Number(int column) const { return sqlite3_column_int64(statement_, column); }

 private:
  JobStore* const store_;
  sqlite3_stmt* statement_ = nullptr;
  int error_ = SQLITE_OK;
  int bound_ = 0;
};

absl::Status JobStore::Error(const char* what) const {
  const int code = sqlite3_errcode(db_);
  const std::string message = fmt::format("{}: {}: {}", path_, what, sqlite3_errmsg(db_));
  if (code == SQLITE_NOTADB) return InvalidArgument("{}", message);
  if (code == SQLITE_BUSY || code == SQLITE_CANTOPEN) return FailedPrecondition("{}", message);
  if (code == SQLITE_FULL) return ResourceExhausted("{}", message);
  return Internal("{}", message);
}

absl::Status JobStore::Execute(const char* sql) {
  return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK ? absl::OkStatus() : Error(sql);
}

absl::StatusOr<std::unique_ptr<JobStore>> JobStore::Open(const std::string& path) {
  std::unique_ptr<JobStore> store(new JobStore(path));
  if (sqlite3_open_v2(path.c_str(), &store->db_,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
                      nullptr) != SQLITE_OK) {
    return store->Error("cannot open it");
  }
  RETURN_IF_ERROR(store->Prepare());
  return store;
}

// One process has the file; a write-ahead log, so that what is written survives a kill at any place.
absl::Status JobStore::Prepare() {
  RETURN_IF_ERROR(Execute("PRAGMA locking_mode = EXCLUSIVE"));
  if (sqlite3_exec(db_, "BEGIN EXCLUSIVE", nullptr, nullptr, nullptr) != SQLITE_OK) {
    if (sqlite3_errcode(db_) == SQLITE_BUSY) {
      return FailedPrecondition("{}: another process has it open", path_);
    }
    return Error("reading it");
  }
  int64_t version = 0, application = 0, tables = 0;
  for (const auto& [sql, out] :
       {std::pair("PRAGMA user_version", &version), std::pair("PRAGMA application_id", &application),
        std::pair("SELECT count(*) FROM sqlite_master", &tables)}) {
    Statement statement(this, sql);
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (row) *out = statement.Number(0);
  }
  if (tables > 0 && application != kApplicationId) {
    return InvalidArgument("{}: a database of another program", path_);
  }
  if (version > kVersion) {
    return FailedPrecondition(
        "{}: its tables are of version {}, this program knows up to {}: a newer Fulger made it", path_,
        version, kVersion);
  }
  if (tables == 0) {
    RETURN_IF_ERROR(Execute(kTables));
    RETURN_IF_ERROR(Execute(fmt::format("PRAGMA user_version = {}", kVersion).c_str()));
    RETURN_IF_ERROR(Execute(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str()));
  }
  RETURN_IF_ERROR(Execute("COMMIT"));
  RETURN_IF_ERROR(Execute("PRAGMA journal_mode = WAL"));
  return Execute("PRAGMA synchronous = FULL");
}

JobStore::~JobStore() { sqlite3_close_v2(db_); }

absl::Status JobStore::InsertFile(const StoredFile& file, std::string_view content) {
  return Statement(this, "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)")
      .Bind(file.id)
      .Bind(file.owner)
      .Bind(file.name)
      .Bind(file.purpose)
      .Bind(static_cast<int64_t>(content.size()))
      .Bind(file.created)
      .BindBlob(content)
      .Run();
}

absl::Status JobStore::AddFile(const StoredFile& file, std::string_view content) {
  std::lock_guard lock(mu_);
  return InsertFile(file, content);
}

namespace {

absl::Status NoFile(const std::string& id) { return NotFound("there is no file \"{}\"", id); }
absl::Status NoBatch(const std::string& id) { return NotFound("there is no batch \"{}\"", id); }

}  // namespace

absl::StatusOr<StoredFile> JobStore::File(const std::string& id, const std::string& owner) {
  std::lock_guard lock(mu_);
  Statement row(this,
                "SELECT id, owner, name, purpose, bytes, created FROM files WHERE id = ? AND owner = ?");
  ASSIGN_OR_RETURN(const bool found, row.Bind(id).Bind(owner).Step());
  if (!found) return NoFile(id);
  return StoredFile{.id = row.Text(0),
                    .owner = row.Text(1),
                    .name = row.Text(2),
                    .purpose = row.Text(3),
                    .bytes = row.Number(4),
                    .created = row.Number(5)};
}

absl::StatusOr<std::string> JobStore::FileContent(const std::string& id, const std::string& owner) {
  std::lock_guard lock(mu_);
  Statement row(this, "SELECT content FROM files WHERE id = ? AND owner = ?");
  ASSIGN_OR_RETURN(const bool found, row.Bind(id).Bind(owner).Step());
  if (!found) return NoFile(id);
  return row.Text(0);
}

absl::Status JobStore::RemoveFile(const std::string& id, const std::string& owner) {
  std::lock_guard lock(mu_);
  RETURN_IF_ERROR(Statement(this, "DELETE FROM files WHERE id = ? AND owner = ?").Bind(id).Bind(owner).Run());
  return sqlite3_changes(db_) > 0 ? absl::OkStatus() : NoFile(id);
}

absl::StatusOr<std::vector<StoredFile>> JobStore::Files(const std::string& owner, int64_t limit,
                                                        const std::string& after) {
  std::lock_guard lock(mu_);
  Statement row(
      this,
      "SELECT id, owner, name, purpose, bytes, created FROM files WHERE owner = ?1 AND (?2 = '' OR rowid < "
      "(SELECT rowid FROM files WHERE id = ?2 AND owner = ?1)) ORDER BY rowid DESC LIMIT ?3");
  row.Bind(owner).Bind(after).Bind(limit);
  std::vector<StoredFile> files;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, row.Step());
    if (!more) return files;
    files.push_back({.id = row.Text(0),
                     .owner = row.Text(1),
                     .name = row.Text(2),
                     .purpose = row.Text(3),
                     .bytes = row.Number(4),
                     .created = row.Number(5)});
  }
}

absl::Status JobStore::AddBatch(const Batch& b, const std::vector<BatchLine>& lines) {
  std::lock_guard lock(mu_);
  RETURN_IF_ERROR(Execute("BEGIN"));
  absl::Status status =
      Statement(this, "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
          .Bind(b.id)
          .Bind(b.owner)
          .Bind(b.endpoint)
          .Bind(b.input_file)
          .Bind(b.window)
          .Bind(b.metadata)
          .Bind(b.status)
          .Bind(b.errors)
          .Bind(b.output_file)
          .Bind(b.error_file)
          .Bind(b.created)
          .Bind(b.expires)
          .Bind(b.cancelling)
          .Bind(b.ended)
          .Run();
  for (const BatchLine& line : lines) {
    if (!status.ok()) break;
    status = Statement(this, "INSERT INTO lines VALUES (?, ?, ?, ?, NULL, NULL)")
                 .Bind(b.id)
                 .Bind(line.number)
                 .Bind(line.custom_id)
                 .Bind(line.body)
                 .Run();
  }
  if (status.ok()) return Execute("COMMIT");
  (void)Execute("ROLLBACK");
  return status;
}

absl::StatusOr<Batch> JobStore::ReadBatch(Statement* row) {
  return Batch{.id = row->Text(0),
               .owner = row->Text(1),
               .endpoint = row->Text(2),
               .input_file = row->Text(3),
               .window = row->Text(4),
               .metadata = row->Text(5),
               .status = row->Text(6),
               .errors = row->Text(7),
               .output_file = row->Text(8),
               .error_file = row->Text(9),
               .created = row->Number(10),
               .expires = row->Number(11),
               .cancelling = row->Number(12),
               .ended = row->Number(13),
               .total = row->Number(14),
               .completed = row->Number(15),
               .failed = row->Number(16)};
}

absl::StatusOr<Batch> JobStore::FindBatch(const std::string& id, const std::string& owner) {
  std::lock_guard lock(mu_);
  Statement row(this, std::string(kBatchColumns) + "WHERE id = ? AND owner = ?");
  ASSIGN_OR_RETURN(const bool found, row.Bind(id).Bind(owner).Step());
  if (!found) return NoBatch(id);
  return ReadBatch(&row);
}

absl::StatusOr<std::vector<Batch>> JobStore::Batches(const std::string& owner, int64_t limit,
                                                     const std::string& after) {
  std::lock_guard lock(mu_);
  Statement row(this,
                std::string(kBatchColumns) +
                    "WHERE owner = ?1 AND (?2 = '' OR rowid < (SELECT rowid FROM batches WHERE id = ?2 AND "
                    "owner = ?1)) ORDER BY rowid DESC LIMIT ?3");
  row.Bind(owner).Bind(after).Bind(limit);
  std::vector<Batch> batches;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, row.Step());
    if (!more) return batches;
    ASSIGN_OR_RETURN(batches.emplace_back(), ReadBatch(&row));
  }
}

absl::Status JobStore::CancelBatch(const std::string& id, const std::string& owner, int64_t now) {
  ASSIGN_OR_RETURN(const Batch batch, FindBatch(id, owner));
  if (batch.status != "in_progress" && batch.status != "cancelling") {
    return FailedPrecondition("batch {} is {}: it cannot be cancelled", id, batch.status);
  }
  std::lock_guard lock(mu_);
  return Statement(this,
                   "UPDATE batches SET status = 'cancelling', cancelling = ? WHERE id = ? AND status = "
                   "'in_progress'")
      .Bind(now)
      .Bind(id)
      .Run();
}

absl::StatusOr<std::vector<Batch>> JobStore::OpenBatches() {
  std::lock_guard lock(mu_);
  Statement row(this,
                std::string(kBatchColumns) + "WHERE status IN ('in_progress', 'cancelling') ORDER BY rowid");
  std::vector<Batch> batches;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, row.Step());
    if (!more) return batches;
    ASSIGN_OR_RETURN(batches.emplace_back(), ReadBatch(&row));
  }
}

absl::StatusOr<std::vector<BatchLine>> JobStore::OpenLines(const std::string& batch, int64_t first,
                                                           int64_t limit) {
  std::lock_guard lock(mu_);
  Statement row(this,
                "SELECT number, custom_id, body FROM lines WHERE batch = ? AND number >= ? AND ok IS NULL "
                "ORDER BY number LIMIT ?");
  row.Bind(batch).Bind(first).Bind(limit);
  std::vector<BatchLine> lines;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, row.Step());
    if (!more) return lines;
    lines.push_back({.batch = batch, .number = row.Number(0), .custom_id = row.Text(1), .body = row.Text(2)});
  }
}

absl::Status JobStore::FinishLine(const std::string& batch, int64_t number, bool ok,
                                  const std::string& result) {
  std::lock_guard lock(mu_);
  return Statement(this, "UPDATE lines SET ok = ?, result = ? WHERE batch = ? AND number = ? AND ok IS NULL")
      .Bind(int64_t{ok ? 1 : 0})
      .Bind(result)
      .Bind(batch)
      .Bind(number)
      .Run();
}

absl::StatusOr<std::string> JobStore::Results(const std::string& batch, bool ok, int64_t* count) {
  Statement row(this, "SELECT result FROM lines WHERE batch = ? AND ok = ? ORDER BY number");
  row.Bind(batch).Bind(int64_t{ok ? 1 : 0});
  std::string text;
  for (*count = 0;; ++*count) {
    ASSIGN_OR_RETURN(const bool more, row.Step());
    if (!more) return text;
    text += row.Text(0) + "\n";
  }
}

absl::Status JobStore::EndBatch(const Batch& batch, const std::string& status, const std::string& output_id,
                                const std::string& error_id, int64_t now) {
  std::lock_guard lock(mu_);
  RETURN_IF_ERROR(Execute("BEGIN"));
  const auto end = [&]() -> absl::Status {
    std::string files[2];
    for (const bool ok : {true, false}) {
      int64_t count = 0;
      ASSIGN_OR_RETURN(const std::string content, Results(batch.id, ok, &count));
      if (count == 0) continue;
      const std::string& id = files[ok ? 0 : 1] = ok ? output_id : error_id;
      RETURN_IF_ERROR(InsertFile({.id = id,
                                  .owner = batch.owner,
                                  .name = batch.id + (ok ? "_output.jsonl" : "_error.jsonl"),
                                  .purpose = "batch_output",
                                  .created = now},
                                 content));
    }
    return Statement(
               this,
               "UPDATE batches SET status = ?, output_file = ?, error_file = ?, ended = ? WHERE id = ? AND "
               "status IN ('in_progress', 'cancelling')")
        .Bind(status)
        .Bind(files[0])
        .Bind(files[1])
        .Bind(now)
        .Bind(batch.id)
        .Run();
  };
  if (absl::Status ended = end(); !ended.ok()) {
    (void)Execute("ROLLBACK");
    return ended;
  }
  return Execute("COMMIT");
}

}  // namespace fulger
