#include "worker/cache/kv_cache.h"

#include "base/check.h"

namespace fulger {

absl::StatusOr<KvCache> KvCache::Make(const ModelConfig& config, const RankPlan& rank, Device& device,
                                      int64_t blocks, int64_t block_size, DType dtype) {
  KvCache cache;
  cache.blocks_ = blocks;
  cache.block_size_ = block_size;
  cache.first_layer_ = rank.layers.begin;
  const int64_t heads = rank.kv_heads.size();
  const int64_t dim = config.text.head_dim;
  const size_t half = static_cast<size_t>(blocks * heads * block_size * dim) * ByteSize(dtype);
  for (int64_t l = rank.layers.begin; l < rank.layers.end; ++l) {
    Layer layer;
    if (config.text.layer_kinds[static_cast<size_t>(l)] == LayerKind::kSoftmax) {
      ASSIGN_OR_RETURN(layer.buffer, device.Allocate(2 * half));
      char* data = static_cast<char*>(layer.buffer.data());
      layer.keys = MutTensorView(data, dtype, {blocks, heads, block_size, dim});
      layer.values = MutTensorView(data + half, dtype, {blocks, heads, block_size, dim});
    }
    cache.layers_.push_back(std::move(layer));
  }
  return cache;
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const Layer& layer : layers_) total += static_cast<int64_t>(layer.buffer.bytes());
  return total;
}

const MutTensorView& KvCache::keys(int64_t layer) const {
  return layers_[static_cast<size_t>(layer - first_layer_)].keys;
}

const MutTensorView& KvCache::values(int64_t layer) const {
  return layers_[static_cast<size_t>(layer - first_layer_)].values;
}

absl::Status KvCache::CopyBlock(Device& device, int32_t from, int32_t to) {
  if (from < 0 || from >= blocks_ || to < 0 || to >= blocks_) {
    return InvalidArgument("copy block {} -> {}: this rank has blocks 0..{}", from, to, blocks_ - 1);
  }
  for (const Layer& layer : layers_) {
    for (const MutTensorView* view : {&layer.keys, &layer.values}) {
      if (view->empty_view()) continue;
      const MutTensorView source = view->Rows(from, 1);
      RETURN_IF_ERROR(device.Copy(device.stream(), source.raw(), view->Rows(to, 1).mut_raw(),
                                  static_cast<size_t>(source.bytes())));
    }
  }
  return absl::OkStatus();
}

absl::Status KvCache::AppendParts(std::span<const int32_t> blocks, std::vector<MutTensorView>* parts) const {
  for (const int32_t block : blocks) {
    if (block < 0 || block >= blocks_) {
      return InvalidArgument("block {}: this rank has blocks 0..{}", block, blocks_ - 1);
    }
  }
  for (const Layer& layer : layers_) {
    for (const MutTensorView* view : {&layer.keys, &layer.values}) {
      if (view->empty_view()) continue;
      for (const int32_t block : blocks) parts->push_back(view->Rows(block, 1));
    }
  }
  return absl::OkStatus();
}

}  // namespace fulger
