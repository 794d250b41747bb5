// Reading files without mmap: positioned reads from many threads. Writing new ones so that they are on disk
// or are not there. Errors name the file, and where there is one the offset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace fulger {

// A file open for reading. Thread-safe: pread only. Movable, closes itself.
class File {
 public:
  static absl::StatusOr<File> Open(const std::string& path);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  // Fills `out` from `offset`; a short file is DATA_LOSS naming both sizes.
  absl::Status ReadAt(uint64_t offset, std::span<std::byte> out) const;

 private:
  File(int fd, std::string path, uint64_t size) : fd_(fd), path_(std::move(path)), size_(size) {}
  int fd_ = -1;
  std::string path_;
  uint64_t size_ = 0;
};

// A file that is being made, from its beginning to its end. Movable, closes itself; one thread.
class NewFile {
 public:
  // ALREADY_EXISTS where there is one.
  static absl::StatusOr<NewFile> Create(const std::string& path);
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&& other) = delete;
  ~NewFile();

  // RESOURCE_EXHAUSTED: the disk, a quota or the process's limit (a program that should hear of it ignores
  // SIGXFSZ) leaves no room.
  absl::Status Write(std::span<const std::byte> bytes);
  // What was written is on disk when this returns.
  absl::Status Sync();
  uint64_t size() const { return size_; }

 private:
  NewFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::string path_;
  uint64_t size_ = 0;
};

// All of `content` under this name, or what was there before; on disk when it returns.
absl::Status ReplaceFile(const std::string& path, std::string_view content);

// The whole file; larger than `limit` bytes is INVALID_ARGUMENT (nobody reads a 900 GB config.json by
// mistake).
absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit = 256ULL << 20);
bool FileExists(const std::string& path);

}  // namespace fulger
