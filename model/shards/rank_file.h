// The form of a rank's file: a safetensors file whose tensors are the rank's slices, under their released
// names and in the order of the model's table, after one tensor of block sums.
//
//   fulger.block_sums  U8 [blocks, 16]   the sums of all tensors' blocks, in their order
//   NAME               as the checkpoint stores it, cut to the rank's rows and columns
//   int8 matrices: NAME  I8,  NAME_scale  F32 [rows]
//
// The form follows from the plan and the types of the checkpoint alone: whoever reads a file knows what must
// be in it, to the byte.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/status.h"
#include "model/layout.h"
#include "model/shards/block_sums.h"
#include "model/tensors.h"

namespace fulger {

struct RankTensor {
  std::string name;
  TensorSlice slice;
  bool scale = false;  // of the rows of an int8 matrix
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // in the file
  int64_t bytes = 0;
  int64_t first_block = 0;
};

struct RankFileForm {
  std::string name;                 // "rank-00003.safetensors"
  std::vector<RankTensor> tensors;  // in the order of their bytes
  std::string head;                 // the file up to its data, which starts at a multiple of 4096
  int64_t blocks = 0;               // after the head, 16 bytes each
  uint64_t bytes = 0;               // of the whole file

  uint64_t sum_offset(int64_t block) const {
    return head.size() + static_cast<uint64_t>(block) * sizeof(BlockSum);
  }
};

// `stored[i]`: the checkpoint's type of tensor i of the table. A rank whose run of the vocabulary is empty
// has tensors of no rows.
RankFileForm MakeRankFileForm(const std::vector<TensorSpec>& table, const RankPlan& rank,
                              const std::vector<DType>& stored, int64_t block_bytes);

// Immutable after Open; any thread may read.
class RankFile {
 public:
  // Reads and checks head and block sums. DATA_LOSS: not of this form, or damaged.
  static absl::StatusOr<RankFile> Open(const std::string& dir, RankFileForm form, int64_t block_bytes,
                                       const BlockSum& sum_of_sums);

  const File& file() const { return file_; }
  const RankFileForm& form() const { return form_; }
  int64_t block_bytes() const { return block_bytes_; }
  // Null: not on this rank.
  const RankTensor* Find(size_t tensor, bool scale) const;
  std::span<const BlockSum> sums(const RankTensor& tensor) const;

 private:
  RankFile(File file, RankFileForm form, int64_t block_bytes)
      : file_(std::move(file)), form_(std::move(form)), block_bytes_(block_bytes) {}

  File file_;
  RankFileForm form_;
  int64_t block_bytes_;
  std::vector<BlockSum> sums_;
};

// DATA_LOSS naming file, tensor and place unless `bytes`, a block that lies at `offset` of the file, have the
// expected sum.
absl::Status CheckBlock(const std::string& path, std::string_view tensor, std::span<const std::byte> bytes,
                        uint64_t offset, const BlockSum& expected);

}  // namespace fulger
