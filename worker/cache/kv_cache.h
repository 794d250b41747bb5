// Paged keys and values of a rank's softmax layers. The coordinator owns block ids, this owns the bytes.
// Threads: the rank's executor only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "kernels/device/device.h"
#include "model/config.h"
#include "model/layout.h"

namespace fulger {

class KvCache {
 public:
  // One pair of tensors [blocks, kv_heads, block_size, head_dim] per softmax layer of the rank.
  static absl::StatusOr<KvCache> Make(const ModelConfig& config, const RankPlan& rank, Device& device,
                                      int64_t blocks, int64_t block_size, DType dtype);

  int64_t blocks() const { return blocks_; }
  int64_t block_size() const { return block_size_; }
  int64_t bytes() const;
  // `layer` is global and must be a softmax layer of this rank.
  const MutTensorView& keys(int64_t layer) const;
  const MutTensorView& values(int64_t layer) const;
  absl::Status CopyBlock(Device& device, int32_t from, int32_t to);
  // Keys and values of these blocks, layer by layer, each view contiguous.
  absl::Status AppendParts(std::span<const int32_t> blocks, std::vector<MutTensorView>* parts) const;

 private:
  struct Layer {
    Buffer buffer;
    MutTensorView keys, values;
  };
  int64_t blocks_ = 0;
  int64_t block_size_ = 0;
  int64_t first_layer_ = 0;
  std::vector<Layer> layers_;  // by layer - first_layer_; lightning layers hold nothing
};

}  // namespace fulger
