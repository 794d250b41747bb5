// Writing files so that a crash leaves the old one, the new one, or something that is known to be unfinished.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace fulger {

// A file open for positioned writes. Thread-safe: pwrite only. Movable, closes itself.
class OutputFile {
 public:
  // Made where there is none; what is in it stays.
  static absl::StatusOr<OutputFile> Open(const std::string& path);
  // ALREADY_EXISTS where there is one. Nobody but its owner may read it.
  static absl::StatusOr<OutputFile> Create(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  const std::string& path() const { return path_; }
  absl::Status Resize(uint64_t bytes) const;
  // RESOURCE_EXHAUSTED: the disk, a quota or the process's limit (a program that should hear of it ignores
  // SIGXFSZ) leaves no room.
  absl::Status WriteAt(uint64_t offset, std::span<const std::byte> bytes) const;
  // Returns once what was written is on the disk.
  absl::Status Sync() const;

 private:
  OutputFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::string path_;
};

// A file that is made from its beginning to its end. Movable; one thread.
class NewFile {
 public:
  static absl::StatusOr<NewFile> Create(const std::string& path);
  absl::Status Write(std::span<const std::byte> bytes);
  absl::Status Sync() const { return file_.Sync(); }
  uint64_t size() const { return size_; }

 private:
  explicit NewFile(OutputFile file) : file_(std::move(file)) {}
  OutputFile file_;
  uint64_t size_ = 0;
};

// `to` is replaced, and the folder is written to the disk: after a crash there is the one or the other.
absl::Status RenameDurably(const std::string& from, const std::string& to);
// Under another name first, then renamed: all of `text` is in the file, or what was there before.
absl::Status WriteFileDurably(const std::string& path, std::string_view text);

}  // namespace fulger
