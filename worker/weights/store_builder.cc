#include "worker/weights/store_builder.h"

#include <array>
#include <map>
#include <utility>

#include "base/check.h"
#include "model/cost/rank_memory.h"

namespace fulger {
namespace {

int64_t Bytes(DType dtype) { return static_cast<int64_t>(ByteSize(dtype)); }

// A view's rank is fixed when it is made.
TensorView MakeView(const std::byte* memory, DType dtype, const std::vector<int64_t>& d) {
  switch (d.size()) {
    case 1:
      return {memory, dtype, {d[0]}};
    case 2:
      return {memory, dtype, {d[0], d[1]}};
    case 3:
      return {memory, dtype, {d[0], d[1], d[2]}};
    case 4:
      return {memory, dtype, {d[0], d[1], d[2], d[3]}};
    default:
      FULGER_CHECK(false, "{} dimensions", d.size());
      return {};
  }
}

std::vector<int64_t> SliceShape(const TensorSpec& spec, const TensorSlice& slice) {
  std::vector<int64_t> shape = spec.shape;
  shape[0] = slice.rows.size();
  if (shape.size() > 1) shape[1] = slice.columns.size();
  return shape;
}

// The three stacks of a layer.
enum Stack : size_t { kW1, kW3, kW2, kStacks };

Stack StackOf(const TensorSpec& spec) {
  if (spec.cut == Cut::kExpertColumns) return kW2;
  return spec.name.ends_with("w1.weight") ? kW1 : kW3;
}

}  // namespace

DType StoreBuilder::HeldType(size_t tensor) const {
  if (HeldAsInt8(source_.table()[tensor], rank_)) return DType::kI8;
  return fulger::HeldType(source_.stored(tensor), dtype_ == WeightDType::kF32);
}

absl::StatusOr<std::byte*> StoreBuilder::Allocate(const TensorSpec& spec, int64_t bytes) {
  absl::StatusOr<Buffer> buffer = device_.Allocate(static_cast<size_t>(bytes));
  if (!buffer.ok()) return Annotate(buffer.status(), "weights, " + spec.name);
  store_.buffers_.push_back(std::move(*buffer));
  store_.bytes_[static_cast<size_t>(spec.component)] += bytes;
  return static_cast<std::byte*>(store_.buffers_.back().data());
}

void StoreBuilder::AddTarget(const TensorSlice& slice, DType held, std::byte* memory, std::byte* scales) {
  LoadTarget t{source_.Find(slice)};
  t.spec = &source_.table()[slice.tensor];
  t.held = held;
  t.memory = memory;
  if (scales != nullptr && source_.int8()) {
    LoadTarget s{source_.Find(slice, /*scales=*/true)};
    s.spec = t.spec;
    s.held = DType::kF32;
    s.memory = scales;
    targets_.push_back(s);
  } else {
    t.scales = scales;
  }
  t.shares_rows = t.scales != nullptr && t.width != t.stride;
  if (t.width == t.stride && t.scales == nullptr) {
    t.width = t.stride = t.rows * t.width;
    t.rows = 1;
  }
  targets_.push_back(t);
}

absl::Status StoreBuilder::AddTensor(const TensorSlice& slice) {
  const TensorSpec& spec = source_.table()[slice.tensor];
  const DType held = HeldType(slice.tensor);
  ASSIGN_OR_RETURN(std::byte* const memory, Allocate(spec, SliceElements(spec, slice) * Bytes(held)));
  store_.views_[spec.name] = MakeView(memory, held, SliceShape(spec, slice));
  std::byte* scales = nullptr;
  if (held == DType::kI8) {
    ASSIGN_OR_RETURN(scales, Allocate(spec, slice.rows.size() * Bytes(DType::kF32)));
    store_.scales_[spec.name] = TensorView(scales, DType::kF32, {slice.rows.size()});
  }
  AddTarget(slice, held, memory, scales);
  return absl::OkStatus();
}

absl::Status StoreBuilder::AddExperts(const std::vector<TensorSlice>& slices) {
  const std::vector<TensorSpec>& table = source_.table();
  std::array<std::vector<TensorSlice>, kStacks> stacks;
  for (const TensorSlice& slice : slices) stacks[StackOf(table[slice.tensor])].push_back(slice);

  ExpertWeights& weights = store_.experts_[table[slices[0].tensor].layer];
  const std::array<TensorView*, kStacks> views = {&weights.w1, &weights.w3, &weights.w2};
  const std::array<TensorView*, kStacks> scale_views = {&weights.w1_scale, &weights.w3_scale,
                                                        &weights.w2_scale};
  for (size_t s = 0; s < kStacks; ++s) {
    const TensorSpec& first = table[stacks[s][0].tensor];
    // One type per stack: a single expert stored as F32 makes it F32.
    DType held = HeldType(stacks[s][0].tensor);
    for (const TensorSlice& slice : stacks[s]) {
      if (HeldType(slice.tensor) == DType::kF32) held = DType::kF32;
    }
    const int64_t one = SliceElements(first, stacks[s][0]) * Bytes(held);
    ASSIGN_OR_RETURN(std::byte * memory, Allocate(first, one * rank_.experts.size()));
    std::vector<int64_t> shape = SliceShape(first, stacks[s][0]);
    *views[s] = TensorView(memory, held, {rank_.experts.size(), shape[0], shape[1]});
    std::byte* scales = nullptr;
    const int64_t scale_bytes = shape[0] * Bytes(DType::kF32);
    if (held == DType::kI8) {
      ASSIGN_OR_RETURN(scales, Allocate(first, scale_bytes * rank_.experts.size()));
      *scale_views[s] = TensorView(scales, DType::kF32, {rank_.experts.size(), shape[0]});
    }
    for (const TensorSlice& slice : stacks[s]) {
      const int64_t expert = table[slice.tensor].expert - rank_.experts.begin;
      std::byte* const place = memory + one * expert;
      store_.views_[table[slice.tensor].name] = MakeView(place, held, shape);
      AddTarget(slice, held, place, scales == nullptr ? nullptr : scales + scale_bytes * expert);
    }
  }
  return absl::OkStatus();
}

void StoreBuilder::AddEmptyVocabulary() {
  if (rank_.vision_only || rank_.vocab.size() > 0) return;
  const std::vector<TensorSpec>& table = source_.table();
  for (size_t i = 0; i < table.size(); ++i) {
    const bool mine = (table[i].component == Component::kEmbedding && rank_.first_stage) ||
                      (table[i].component == Component::kLmHead && rank_.last_stage);
    if (!mine) continue;
    const DType held = HeldType(i);
    store_.views_[table[i].name] = TensorView(nullptr, held, {0, table[i].shape[1]});
    if (held == DType::kI8) store_.scales_[table[i].name] = TensorView(nullptr, DType::kF32, {0});
  }
}

absl::Status StoreBuilder::Build() {
  const std::vector<TensorSpec>& table = source_.table();
  std::map<int64_t, std::vector<TensorSlice>> experts_of_layer;
  for (const TensorSlice& slice : RankTensors(table, rank_)) {
    const TensorSpec& spec = table[slice.tensor];
    if (spec.expert >= 0) {
      experts_of_layer[spec.layer].push_back(slice);
    } else {
      RETURN_IF_ERROR(AddTensor(slice));
    }
  }
  for (const auto& [layer, slices] : experts_of_layer) RETURN_IF_ERROR(AddExperts(slices));
  AddEmptyVocabulary();
  return absl::OkStatus();
}

}  // namespace fulger
