// Reading files without mmap: positioned reads from many threads, errors that name the file and the offset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

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

// The whole file; larger than `limit` bytes is INVALID_ARGUMENT (nobody reads a 900 GB config.json by
// mistake).
absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit = 256ULL << 20);
bool FileExists(const std::string& path);

// What errno says of a call on a file, as "PATH: what: text".
absl::Status ErrnoStatus(const std::string& path, const char* what, int error);

}  // namespace fulger
