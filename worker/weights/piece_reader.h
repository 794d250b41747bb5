// Cuts a load into pieces of bounded size and reads one piece: positioned reads, column cuts, conversion.
// Pure of threads and devices. Internal to worker/weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "worker/weights/loader.h"
#include "worker/weights/store_builder.h"

namespace fulger {

// Units [begin, end) of a target: elements when it is contiguous in the file, else rows.
struct Piece {
  const LoadTarget* target = nullptr;
  int64_t begin = 0;
  int64_t end = 0;
  bool whole_rows = false;  // read the skipped columns too

  int64_t elements() const { return (end - begin) * (target->contiguous() ? 1 : target->width); }
  int64_t first_element() const { return begin * (target->contiguous() ? 1 : target->width); }
  int64_t used_bytes() const { return elements() * static_cast<int64_t>(ByteSize(target->stored)); }
  int64_t held_bytes() const { return elements() * static_cast<int64_t>(ByteSize(target->held)); }
  std::byte* place() const {
    return target->memory + first_element() * static_cast<int64_t>(ByteSize(target->held));
  }
  int64_t scale_bytes() const {
    return target->scales == nullptr ? 0 : (end - begin) * static_cast<int64_t>(sizeof(float));
  }
  std::byte* scale_place() const {
    return target->scales == nullptr ? nullptr : target->scales + begin * static_cast<int64_t>(sizeof(float));
  }
  uint64_t offset() const;     // of the first byte read
  int64_t read_bytes() const;  // from the file
};

// In the order of the files, so that each is read forward.
std::vector<Piece> CutPieces(const std::vector<LoadTarget>& targets, const LoadOptions& options);

// Writes held_bytes() to `out`, and for int8 the rows' scales to `scales`. `scratch` grows to what the piece
// needs and is kept by the caller.
absl::Status ReadPiece(const Piece& piece, std::vector<std::byte>& scratch, std::byte* out,
                       std::byte* scales = nullptr);
// DATA_LOSS when the row's largest magnitude says that it holds NaN or infinity. `row` counts within the
// rank's part.
absl::Status CheckMagnitude(const LoadTarget& target, int64_t row, float largest);

// DATA_LOSS naming the first NaN or infinity among the piece's held elements at `data`.
absl::Status CheckFinite(const Piece& piece, const std::byte* data);

}  // namespace fulger
