#include "worker/weights/piece_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <tuple>

#include "base/bfloat16.h"
#include "base/check.h"
#include "base/file.h"
#include "model/checkpoint/quantize.h"
#include "model/shards/rank_file.h"

namespace fulger {
namespace {

int64_t Bytes(DType dtype) { return static_cast<int64_t>(ByteSize(dtype)); }

float ToFloat(uint16_t bits, DType dtype) {
  return dtype == DType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
}

// `count` elements from the file's type to the held one.
void Convert(const std::byte* from, DType stored, std::byte* to, DType held, int64_t count) {
  if (stored == held) {
    std::memcpy(to, from, static_cast<size_t>(count * Bytes(held)));
    return;
  }
  FULGER_CHECK(held == DType::kF32 && Bytes(stored) == 2, "{} to {}", Name(stored), Name(held));
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, sizeof(bits));
    const float value = ToFloat(bits, stored);
    std::memcpy(to + 4 * i, &value, sizeof(value));
  }
}

absl::Status ReadAt(const LoadTarget& t, uint64_t offset, std::byte* out, int64_t bytes) {
  const absl::Status s = t.file->ReadAt(offset, {out, static_cast<size_t>(bytes)});
  return s.ok() ? s : Annotate(s, "tensor " + t.spec->name);
}

std::byte* Scratch(std::vector<std::byte>& scratch, int64_t bytes) {
  if (scratch.size() < static_cast<size_t>(bytes)) scratch.resize(static_cast<size_t>(bytes));
  return scratch.data();
}

// One read over all rows, skipped columns included; then the cut is copied out.
absl::Status ReadWholeRows(const Piece& piece, std::vector<std::byte>& scratch, std::byte* out) {
  const LoadTarget& t = *piece.target;
  std::byte* const raw = Scratch(scratch, piece.read_bytes());
  RETURN_IF_ERROR(ReadAt(t, piece.offset(), raw, piece.read_bytes()));
  for (int64_t r = 0; r < piece.end - piece.begin; ++r) {
    Convert(raw + r * t.stride * Bytes(t.stored), t.stored, out + r * t.width * Bytes(t.held), t.held,
            t.width);
  }
  return absl::OkStatus();
}

// One read per row into `raw`, back to back.
absl::Status ReadRows(const Piece& piece, std::byte* raw) {
  const LoadTarget& t = *piece.target;
  const int64_t row_bytes = t.width * Bytes(t.stored);
  for (int64_t r = 0; r < piece.end - piece.begin; ++r) {
    const uint64_t offset = piece.offset() + static_cast<uint64_t>(r * t.stride * Bytes(t.stored));
    RETURN_IF_ERROR(ReadAt(t, offset, raw + r * row_bytes, row_bytes));
  }
  return absl::OkStatus();
}

// Pieces of a target with sums are its blocks.
absl::Status CheckSum(const Piece& piece, const std::byte* raw) {
  const LoadTarget& t = *piece.target;
  if (t.sums.empty()) return absl::OkStatus();
  const auto block = static_cast<size_t>(piece.begin * Bytes(t.stored) / t.block_bytes);
  return CheckBlock(t.file->path(), t.spec->name, {raw, static_cast<size_t>(piece.used_bytes())},
                    piece.offset(), t.sums[block]);
}

// Whole rows, each with its own scale.
absl::Status ReadQuantized(const Piece& piece, std::vector<std::byte>& scratch, std::byte* out,
                           std::byte* scales) {
  const LoadTarget& t = *piece.target;
  FULGER_CHECK(t.width == t.stride, "{}: the scale of a cut row is not this rank's to choose", t.spec->name);
  std::byte* const raw = Scratch(scratch, piece.read_bytes());
  RETURN_IF_ERROR(ReadAt(t, piece.offset(), raw, piece.read_bytes()));
  for (int64_t r = 0; r < piece.end - piece.begin; ++r) {
    const std::byte* row = raw + r * t.width * Bytes(t.stored);
    const float largest = LargestMagnitude(row, t.stored, t.width);
    RETURN_IF_ERROR(CheckMagnitude(t, piece.begin + r, largest));
    const float scale = Int8Scale(largest);
    ToInt8(row, t.stored, t.width, scale, reinterpret_cast<int8_t*>(out) + r * t.width);
    std::memcpy(scales + r * static_cast<int64_t>(sizeof(scale)), &scale, sizeof(scale));
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t Piece::offset() const {
  const int64_t elements_before = begin * (target->contiguous() ? 1 : target->stride);
  return target->offset + static_cast<uint64_t>(elements_before * Bytes(target->stored));
}

int64_t Piece::read_bytes() const {
  if (!whole_rows) return used_bytes();
  return ((end - begin - 1) * target->stride + target->width) * Bytes(target->stored);
}

std::vector<Piece> CutPieces(const std::vector<LoadTarget>& targets, const LoadOptions& options) {
  std::vector<Piece> pieces;
  for (const LoadTarget& t : targets) {
    const int64_t size = Bytes(t.stored);
    const bool whole_rows =
        !t.contiguous() && (2 * t.width >= t.stride || (t.stride - t.width) * size <= options.gap_bytes);
    // A read of one block can be checked as it is.
    const int64_t piece_bytes = t.sums.empty() ? options.piece_bytes : t.block_bytes;
    const int64_t unit = size * (t.contiguous() ? 1 : whole_rows ? t.stride : t.width);
    const int64_t per_piece = std::max<int64_t>(1, piece_bytes / unit);
    const int64_t units = t.contiguous() ? t.width : t.rows;
    for (int64_t begin = 0; begin < units; begin += per_piece) {
      pieces.push_back({&t, begin, std::min(units, begin + per_piece), whole_rows});
    }
  }
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return std::tuple(a.target->file, a.offset()) < std::tuple(b.target->file, b.offset());
  });
  return pieces;
}

absl::Status CheckMagnitude(const LoadTarget& target, int64_t row, float largest) {
  if (std::isfinite(largest)) return absl::OkStatus();
  return DataLoss(
      "tensor {}: {}: expected finite numbers to make int8 of, row {} of this rank's part holds {}",
      target.spec->name, target.file->path(), row, largest);
}

absl::Status ReadPiece(const Piece& piece, std::vector<std::byte>& scratch, std::byte* out,
                       std::byte* scales) {
  const LoadTarget& t = *piece.target;
  if (t.scales != nullptr) return ReadQuantized(piece, scratch, out, scales);
  if (piece.whole_rows) return ReadWholeRows(piece, scratch, out);
  std::byte* const raw = t.stored == t.held ? out : Scratch(scratch, piece.used_bytes());
  if (t.contiguous()) {
    RETURN_IF_ERROR(ReadAt(t, piece.offset(), raw, piece.used_bytes()));
    RETURN_IF_ERROR(CheckSum(piece, raw));
  } else {
    RETURN_IF_ERROR(ReadRows(piece, raw));
  }
  if (raw != out) Convert(raw, t.stored, out, t.held, piece.elements());
  return absl::OkStatus();
}

absl::Status CheckFinite(const Piece& piece, const std::byte* data) {
  const LoadTarget& t = *piece.target;
  for (int64_t i = 0; i < piece.elements(); ++i) {
    float value;
    if (t.held == DType::kF32) {
      std::memcpy(&value, data + 4 * i, sizeof(value));
    } else {
      uint16_t bits;
      std::memcpy(&bits, data + 2 * i, sizeof(bits));
      value = BF16ToFloat(bits);
    }
    if (!std::isfinite(value)) {
      return DataLoss("tensor {}: {}: expected finite numbers, element {} of this rank's part is {}",
                      t.spec->name, t.file->path(), piece.first_element() + i, value);
    }
  }
  return absl::OkStatus();
}

}  // namespace fulger
