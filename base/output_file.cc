#include "base/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/file.h"

namespace fulger {
namespace {

// Linux caps a single transfer at 2 GiB.
constexpr size_t kMostAtOnce = size_t{1} << 30;

absl::Status SyncFolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(folder, "open", errno);
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  // Some network file systems have no fsync of a folder; their renames are in order.
  if (error == 0 || error == EINVAL || error == ENOTSUP) return absl::OkStatus();
  return ErrnoStatus(folder, "fsync", error);
}

}  // namespace

absl::StatusOr<OutputFile> OutputFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return ErrnoStatus(path, "open for writing", errno);
  return OutputFile(fd, path);
}

absl::StatusOr<OutputFile> OutputFile::Create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(path, "create", errno);
  return OutputFile(fd, path);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = std::exchange(other.fd_, -1);
    path_ = std::move(other.path_);
  }
  return *this;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status OutputFile::Resize(uint64_t bytes) const {
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return ErrnoStatus(path_, "resize", errno);
  return absl::OkStatus();
}

absl::Status OutputFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t want = std::min(kMostAtOnce, bytes.size() - done);
    const ssize_t n = ::pwrite(fd_, bytes.data() + done, want, static_cast<off_t>(offset + done));
    if (n < 0) {
      const int error = errno;
      if (error == EINTR) continue;
      return ErrnoStatus(path_, fmt::format("write at {}", offset + done).c_str(), error);
    }
    done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Sync() const {
  if (::fdatasync(fd_) != 0) return ErrnoStatus(path_, "fdatasync", errno);
  return absl::OkStatus();
}

absl::StatusOr<NewFile> NewFile::Create(const std::string& path) {
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(path));
  return NewFile(std::move(file));
}

absl::Status NewFile::Write(std::span<const std::byte> bytes) {
  RETURN_IF_ERROR(file_.WriteAt(size_, bytes));
  size_ += bytes.size();
  return absl::OkStatus();
}

absl::Status RenameDurably(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) return ErrnoStatus(from, "rename", errno);
  return SyncFolderOf(to);
}

absl::Status WriteFileDurably(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".partial";
  const auto write = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const OutputFile file, OutputFile::Open(temporary));
    RETURN_IF_ERROR(file.Resize(0));
    RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(text))));
    return file.Sync();
  };
  const absl::Status written = write();
  if (!written.ok()) {
    ::unlink(temporary.c_str());
    return written;
  }
  return RenameDurably(temporary, path);
}

}  // namespace fulger
