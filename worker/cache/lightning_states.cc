#include "worker/cache/lightning_states.h"

namespace fulger {

absl::StatusOr<LightningStates> LightningStates::Make(const ModelConfig& config, const RankPlan& rank,
                                                      Device& device, int64_t slots) {
  LightningStates result;
  result.slots_ = slots;
  result.first_layer_ = rank.layers.begin;
  const int64_t heads = rank.query_heads.size();
  const int64_t dim = config.text.head_dim;
  const size_t bytes = static_cast<size_t>(slots * heads * dim * dim) * sizeof(float);
  for (int64_t l = rank.layers.begin; l < rank.layers.end; ++l) {
    Layer layer;
    if (config.text.layer_kinds[static_cast<size_t>(l)] == LayerKind::kLightning) {
      ASSIGN_OR_RETURN(layer.buffer, device.Allocate(bytes));
      layer.states = MutTensorView(layer.buffer.data(), DType::kF32, {slots, heads, dim, dim});
      RETURN_IF_ERROR(device.Zero(device.stream(), layer.buffer.data(), bytes));
    }
    result.layers_.push_back(std::move(layer));
  }
  return result;
}

int64_t LightningStates::bytes() const {
  int64_t total = 0;
  for (const Layer& layer : layers_) total += static_cast<int64_t>(layer.buffer.bytes());
  return total;
}

const MutTensorView& LightningStates::states(int64_t layer) const {
  return layers_[static_cast<size_t>(layer - first_layer_)].states;
}

absl::Status LightningStates::CheckSlot(const char* what, int32_t slot) const {
  if (slot >= 0 && slot < slots_) return absl::OkStatus();
  return InvalidArgument("{} slot {}: this rank has slots 0..{}", what, slot, slots_ - 1);
}

absl::Status LightningStates::ZeroSlot(Device& device, int32_t slot) {
  RETURN_IF_ERROR(CheckSlot("zero", slot));
  for (const Layer& layer : layers_) {
    if (layer.states.empty_view()) continue;
    const MutTensorView state = layer.states.Rows(slot, 1);
    RETURN_IF_ERROR(device.Zero(device.stream(), state.mut_raw(), static_cast<size_t>(state.bytes())));
  }
  return absl::OkStatus();
}

absl::Status LightningStates::CopySlot(Device& device, int32_t from, int32_t to) {
  RETURN_IF_ERROR(CheckSlot("copy from", from));
  RETURN_IF_ERROR(CheckSlot("copy to", to));
  for (const Layer& layer : layers_) {
    if (layer.states.empty_view()) continue;
    const MutTensorView source = layer.states.Rows(from, 1);
    RETURN_IF_ERROR(device.Copy(device.stream(), source.raw(), layer.states.Rows(to, 1).mut_raw(),
                                static_cast<size_t>(source.bytes())));
  }
  return absl::OkStatus();
}

absl::Status LightningStates::AppendParts(int32_t slot, std::vector<MutTensorView>* parts) const {
  RETURN_IF_ERROR(CheckSlot("parts of", slot));
  for (const Layer& layer : layers_) {
    if (!layer.states.empty_view()) parts->push_back(layer.states.Rows(slot, 1));
  }
  return absl::OkStatus();
}

}  // namespace fulger
