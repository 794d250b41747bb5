// Writes one tensor's slices into the files of all ranks that hold a part of it: each byte of the checkpoint
// is read once, whole rows at a time. Internal to model/shards.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/output_file.h"
#include "base/status.h"
#include "model/checkpoint/checkpoint.h"
#include "model/shards/rank_file.h"

namespace fulger {

// A rank's file that is being written.
struct RankOutput {
  RankFileForm form;
  OutputFile file;
};

// Thread-safe: several threads write different tensors.
class SliceWriter {
 public:
  // `chunk_bytes`: read at a time, at least one row. `read`: told the bytes of each chunk that is done.
  SliceWriter(const Checkpoint& checkpoint, const std::vector<RankOutput>& outputs, int64_t block_bytes,
              int64_t chunk_bytes, std::function<void(int64_t)> read);

  // 0: no rank's file has a part of it.
  int64_t BytesToRead(size_t tensor) const;
  absl::Status Write(size_t tensor) const;

 private:
  struct Part;
  struct Buffers;
  absl::Status WriteChunk(size_t tensor, int64_t begin, int64_t end, Buffers& buffers,
                          std::vector<Part>& parts) const;

  const Checkpoint& checkpoint_;
  const std::vector<RankOutput>& outputs_;
  const int64_t block_bytes_;
  const int64_t chunk_bytes_;
  const std::function<void(int64_t)> read_;
  // By tensor of the table: which outputs have a part of it, and which of their tensors that is. An int8
  // matrix's scales follow it.
  std::vector<std::vector<std::pair<size_t, size_t>>> parts_of_;
};

}  // namespace fulger
