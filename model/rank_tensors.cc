// What a rank holds of each tensor, and what that weighs.
#include <algorithm>

#include "model/layout.h"

namespace fulger {
namespace {

bool HoldsTensor(const TensorSpec& spec, const RankPlan& rank) {
  switch (spec.component) {
    case Component::kVisionTower:
    case Component::kProjector:
      return rank.holds_vision;
    case Component::kEmbedding:
      return !rank.vision_only && rank.first_stage;
    case Component::kLmHead:
      return !rank.vision_only && rank.last_stage;
    default:
      break;
  }
  if (rank.vision_only) return false;
  if (spec.layer < 0) return rank.last_stage;  // the final norm
  if (spec.layer < rank.layers.begin || spec.layer >= rank.layers.end) return false;
  return spec.expert < 0 || (spec.expert >= rank.experts.begin && spec.expert < rank.experts.end);
}

Range Scaled(const Range& heads, int64_t unit) { return {heads.begin * unit, heads.end * unit}; }

void ApplyCut(const TensorSpec& spec, const RankPlan& rank, TensorSlice& slice) {
  switch (spec.cut) {
    case Cut::kWhole:
      return;
    case Cut::kVocabRows:
      slice.rows = rank.vocab;
      return;
    case Cut::kQueryHeadRows:
      slice.rows = Scaled(rank.query_heads, spec.unit);
      return;
    case Cut::kQueryHeadColumns:
      slice.columns = Scaled(rank.query_heads, spec.unit);
      return;
    case Cut::kKvHeadRows:
      slice.rows = Scaled(rank.kv_heads, spec.unit);
      return;
    case Cut::kExpertRows:
      slice.rows = rank.expert_columns;
      return;
    case Cut::kExpertColumns:
      slice.columns = rank.expert_columns;
      return;
  }
}

// Which of the three stacks of its layer an expert's matrix is in.
size_t StackOf(const TensorSpec& spec) {
  const size_t matrix = spec.cut == Cut::kExpertColumns ? 2 : spec.name.ends_with("w1.weight") ? 0 : 1;
  return static_cast<size_t>(spec.layer) * 3 + matrix;
}

int64_t LayersOfKind(const ModelConfig& config, const RankPlan& rank, LayerKind kind) {
  const auto& kinds = config.text.layer_kinds;
  return std::count(kinds.begin() + rank.layers.begin, kinds.begin() + rank.layers.end, kind);
}

}  // namespace

std::vector<TensorSlice> RankTensors(const std::vector<TensorSpec>& table, const RankPlan& rank) {
  std::vector<TensorSlice> slices;
  for (size_t i = 0; i < table.size(); ++i) {
    const TensorSpec& spec = table[i];
    if (!HoldsTensor(spec, rank)) continue;
    TensorSlice slice{i, {0, spec.shape[0]}, {0, spec.shape.size() > 1 ? spec.shape[1] : 1}};
    ApplyCut(spec, rank, slice);
    if (slice.rows.size() > 0 && slice.columns.size() > 0) slices.push_back(slice);
  }
  return slices;
}

int64_t SliceElements(const TensorSpec& spec, const TensorSlice& slice) {
  int64_t n = slice.rows.size() * slice.columns.size();
  for (size_t d = 2; d < spec.shape.size(); ++d) n *= spec.shape[d];
  return n;
}

bool HeldAsInt8(const TensorSpec& spec, const RankPlan& rank) {
  const WeightFormat format = spec.expert >= 0     ? rank.expert_format
                              : IsProjection(spec) ? rank.projection_format
                                                   : WeightFormat::kStored;
  return format == WeightFormat::kInt8;
}

ComponentBytes RankWeightBytes(const std::vector<TensorSpec>& table, const RankPlan& rank, DType dtype) {
  return RankWeightBytes(table, rank, std::vector<DType>(table.size(), dtype));
}

ComponentBytes RankWeightBytes(const std::vector<TensorSpec>& table, const RankPlan& rank,
                               const std::vector<DType>& held) {
  const std::vector<TensorSlice> slices = RankTensors(table, rank);
  std::vector<size_t> stacks(static_cast<size_t>(rank.layers.end) * 3, 0);  // bytes of an element
  for (const TensorSlice& slice : slices) {
    const TensorSpec& spec = table[slice.tensor];
    if (spec.expert < 0) continue;
    size_t& size = stacks[StackOf(spec)];
    size = std::max(size, ByteSize(held[slice.tensor]));
  }
  ComponentBytes bytes{};
  for (const TensorSlice& slice : slices) {
    const TensorSpec& spec = table[slice.tensor];
    const bool int8 = HeldAsInt8(spec, rank);
    size_t size = int8 ? 1 : ByteSize(held[slice.tensor]);
    if (!int8 && spec.expert >= 0) size = stacks[StackOf(spec)];
    const int64_t scales = int8 ? slice.rows.size() * static_cast<int64_t>(sizeof(float)) : 0;
    bytes[static_cast<size_t>(spec.component)] +=
        SliceElements(spec, slice) * static_cast<int64_t>(size) + scales;
  }
  return bytes;
}

int64_t KvBytesPerToken(const ModelConfig& config, const RankPlan& rank, DType dtype) {
  return LayersOfKind(config, rank, LayerKind::kSoftmax) * 2 * rank.kv_heads.size() * config.text.head_dim *
         static_cast<int64_t>(ByteSize(dtype));
}

int64_t SlotBytes(const ModelConfig& config, const RankPlan& rank) {
  const int64_t state = config.text.head_dim * config.text.head_dim * static_cast<int64_t>(sizeof(float));
  return LayersOfKind(config, rank, LayerKind::kLightning) * rank.query_heads.size() * state;
}

}  // namespace fulger
