#include "model/checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/sha256.h"
#include "model/checkpoint/safetensors_header.h"

namespace fulger {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMostHeaderBytes = 100'000'000;  // the format's own limit

absl::StatusOr<std::string> ReadHeader(const File& file) {
  if (file.size() < kLengthBytes) {
    return DataLoss("{}: expected at least {} bytes, found {}", file.path(), kLengthBytes, file.size());
  }
  unsigned char raw[kLengthBytes];
  RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(raw))));
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = (length << 8) | raw[i];  // little endian
  if (length > kMostHeaderBytes) {
    return InvalidArgument("{}: header length: expected at most {}, found {}", file.path(), kMostHeaderBytes,
                           length);
  }
  if (length > file.size() - kLengthBytes) {
    return DataLoss("{}: header of {} bytes: expected a file of at least {} bytes, found {}", file.path(),
                    length, length + kLengthBytes, file.size());
  }
  std::string header(length, '\0');
  RETURN_IF_ERROR(file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(header))));
  if (!header.starts_with('{')) {
    return InvalidArgument("{}: header: expected to start with {{", file.path());
  }
  return header;
}

// Bytes of a tensor by its shape; nullopt when the product does not fit 64 bits or is no whole byte.
std::optional<uint64_t> BytesOfShape(const StoredTensor& tensor) {
  uint64_t bits = SafetensorsElementBits(tensor.dtype_name);
  for (const int64_t d : tensor.shape) {
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(d), &bits)) return std::nullopt;
  }
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// `data_bytes`: what the file holds after the header.
absl::Status CheckTensor(const StoredTensor& tensor, uint64_t data_bytes) {
  if (tensor.begin > tensor.end || tensor.end > data_bytes) {
    return DataLoss("tensor {}: data_offsets: expected begin <= end <= {}, found {} and {}", tensor.name,
                    data_bytes, tensor.begin, tensor.end);
  }
  const std::optional<uint64_t> want = BytesOfShape(tensor);
  if (!want || *want != tensor.bytes()) {
    return InvalidArgument("tensor {}: {} {}: expected {} bytes, data_offsets span {}", tensor.name,
                           tensor.dtype_name, ShapeText(tensor.shape),
                           want ? std::to_string(*want) : "a number that fits 64 bits of", tensor.bytes());
  }
  return absl::OkStatus();
}

// `tensors` are sorted by begin. The format allows neither holes nor overlaps.
absl::Status CheckCoverage(const std::vector<StoredTensor>& tensors, uint64_t data_bytes) {
  uint64_t at = 0;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.begin != at) {
      return InvalidArgument(
          "tensor {}: expected to begin at offset {} where the previous one ends, found {} ({})", tensor.name,
          at, tensor.begin, tensor.begin < at ? "overlap" : "hole");
    }
    at = tensor.end;
  }
  if (at != data_bytes) {
    return DataLoss("the tensors end at offset {} of the data, the file has {} bytes of data", at,
                    data_bytes);
  }
  return absl::OkStatus();
}

absl::Status CheckAll(const std::vector<StoredTensor>& tensors, uint64_t data_bytes) {
  for (const StoredTensor& tensor : tensors) RETURN_IF_ERROR(CheckTensor(tensor, data_bytes));
  return CheckCoverage(tensors, data_bytes);
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(File opened, File::Open(path));
  SafetensorsFile file(std::move(opened));
  ASSIGN_OR_RETURN(const std::string text, ReadHeader(file.file_));
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(text);
  if (!header.ok()) return Annotate(header.status(), path);
  file.tensors_ = std::move(header->tensors);
  file.metadata_ = std::move(header->metadata);
  file.header_hash_ = Sha256Hex(text);

  // Empty tensors share their begin with the next one: by end as well, so that they come first.
  std::sort(file.tensors_.begin(), file.tensors_.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const uint64_t data_start = kLengthBytes + text.size();
  RETURN_IF_ERROR(Annotate(CheckAll(file.tensors_, file.file_.size() - data_start), path));
  for (size_t i = 0; i < file.tensors_.size(); ++i) {
    StoredTensor& tensor = file.tensors_[i];
    tensor.begin += data_start;
    tensor.end += data_start;
    file.by_name_[tensor.name] = i;
  }
  return file;
}

const StoredTensor* SafetensorsFile::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace fulger
