#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <system_error>
#include <utility>

namespace fulger {

absl::Status ErrnoStatus(const std::string& path, const char* what, int error) {
  const std::string text = std::generic_category().message(error);
  switch (error) {
    case ENOENT:
      return NotFound("{}: {}: {}", path, what, text);
    case EACCES:
    case EISDIR:
    case EROFS:
      return FailedPrecondition("{}: {}: {}", path, what, text);
    case EEXIST:
      return AlreadyExists("{}: {}: {}", path, what, text);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ResourceExhausted("{}: {}: {}", path, what, text);
    default:
      return Unavailable("{}: {}: {}", path, what, text);
  }
}

absl::StatusOr<File> File::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(path, "open", errno);
  struct stat st {};
  if (::fstat(fd, &st) != 0) {
    const int error = errno;
    ::close(fd);
    return ErrnoStatus(path, "stat", error);
  }
  if (!S_ISREG(st.st_mode)) {
    ::close(fd);
    return FailedPrecondition("{}: expected a regular file", path);
  }
  return File(fd, path, static_cast<uint64_t>(st.st_size));
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), size_(other.size_) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    path_ = std::move(other.path_);
    size_ = other.size_;
  }
  return *this;
}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status File::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  // One read is bounded because Linux caps a single transfer at 2 GiB.
  constexpr size_t kMaxRead = size_t{1} << 30;
  size_t done = 0;
  while (done < out.size()) {
    const size_t want = std::min(kMaxRead, out.size() - done);
    const ssize_t n = ::pread(fd_, out.data() + done, want, static_cast<off_t>(offset + done));
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(path_, "read", errno);
    }
    if (n == 0) {
      return DataLoss("{}: expected {} bytes at offset {}, the file ends at {}", path_, out.size(), offset,
                      offset + done);
    }
    done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t limit) {
  ASSIGN_OR_RETURN(File file, File::Open(path));
  if (file.size() > limit) {
    return InvalidArgument("{}: expected at most {} bytes, found {}", path, limit, file.size());
  }
  std::string text(file.size(), '\0');
  RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

bool FileExists(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0;
}

}  // namespace fulger
