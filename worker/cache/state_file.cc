#include "worker/cache/state_file.h"

#include <span>

#include "base/file.h"

namespace fulger {

std::string StateFilePath(const std::string& folder, const std::string& replica, int rank) {
  return fmt::format("{}/replica-{}-rank-{}.state", folder, replica, rank);
}

absl::StatusOr<StateFileWriter> StateFileWriter::Create(const std::string& path) {
  ASSIGN_OR_RETURN(NewFile file, NewFile::Create(path));
  return StateFileWriter(std::move(file));
}

absl::Status StateFileWriter::Write(std::span<const std::byte> bytes) {
  if (hash_ == nullptr) hash_ = std::make_unique<Sha256>();
  hash_->Update(bytes);
  return file_.Write(bytes);
}

v1::SavedPiece StateFileWriter::End() {
  if (hash_ == nullptr) hash_ = std::make_unique<Sha256>();  // a rank that holds nothing of it
  v1::SavedPiece piece;
  piece.set_offset(static_cast<int64_t>(begin_));
  piece.set_bytes(static_cast<int64_t>(file_.size() - begin_));
  piece.set_sha256(hash_->HexDigest());
  begin_ = file_.size();
  hash_.reset();
  return piece;
}

absl::StatusOr<std::vector<std::byte>> ReadStatePiece(const std::string& path, const v1::SavedPiece& piece,
                                                      int64_t expected) {
  if (piece.bytes() != expected) {
    return DataLoss("{}: a state of {} bytes, expected {}", path, piece.bytes(), expected);
  }
  std::vector<std::byte> bytes(static_cast<size_t>(expected));
  ASSIGN_OR_RETURN(const File file, File::Open(path));
  RETURN_IF_ERROR(file.ReadAt(static_cast<uint64_t>(piece.offset()), bytes));
  Sha256 hash;
  hash.Update(bytes);
  const std::string found = hash.HexDigest();
  if (found != piece.sha256()) {
    return DataLoss("{}: {} bytes at {} are damaged: SHA-256 {}, expected {}", path, expected, piece.offset(),
                    found.substr(0, 12), piece.sha256().substr(0, 12));
  }
  return bytes;
}

}  // namespace fulger
