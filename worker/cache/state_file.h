// A rank's file of saved sequences: their bytes one after the other, each with its SHA-256. Where each lies
// is told to the coordinator, whose manifest says so to whoever reads it. Knows no device.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/output_file.h"
#include "base/sha256.h"
#include "base/status.h"
#include "fulger/v1/saved.pb.h"

namespace fulger {

// `folder` is there already, the same for all ranks.
std::string StateFilePath(const std::string& folder, const std::string& replica, int rank);

class StateFileWriter {
 public:
  static absl::StatusOr<StateFileWriter> Create(const std::string& path);

  // Of one sequence: any number of Write, then End, which says where it lies. It is on disk after Sync.
  absl::Status Write(std::span<const std::byte> bytes);
  v1::SavedPiece End();
  absl::Status Sync() { return file_.Sync(); }
  uint64_t size() const { return file_.size(); }

 private:
  explicit StateFileWriter(NewFile file) : file_(std::move(file)) {}
  NewFile file_;
  uint64_t begin_ = 0;
  std::unique_ptr<Sha256> hash_;  // of the sequence that is being written
};

// The piece's bytes. DATA_LOSS: they are not those that were written, or not `expected` many.
absl::StatusOr<std::vector<std::byte>> ReadStatePiece(const std::string& path, const v1::SavedPiece& piece,
                                                      int64_t expected);

}  // namespace fulger
