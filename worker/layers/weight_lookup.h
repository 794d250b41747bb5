// Finds a rank's tensors by role instead of by full name: names differ between MiniMax-VL-01 and
// MiniMax-Text-01 in their prefix only, and the table of tensors knows the prefix.
#pragma once

#include <string_view>

#include "base/status.h"
#include "kernels/tensor/tensor_view.h"
#include "model/tensors.h"
#include "worker/weights/loader.h"

namespace fulger {

class WeightLookup {
 public:
  WeightLookup(const std::vector<TensorSpec>& table, const WeightStore& store)
      : table_(table), store_(store) {}

  // The one held tensor of the language model whose name ends with `suffix` in decoder layer `layer` (-1:
  // none).
  absl::StatusOr<TensorView> Text(int64_t layer, std::string_view suffix) const {
    ASSIGN_OR_RETURN(const TensorSpec* spec, Find(layer, suffix, false));
    return store_.Get(spec->name);
  }
  // The same of a matrix that may be int8.
  absl::StatusOr<WeightMatrix> Matrix(int64_t layer, std::string_view suffix) const {
    ASSIGN_OR_RETURN(const TensorSpec* spec, Find(layer, suffix, false));
    return store_.Matrix(spec->name);
  }
  // Like Text, in the vision tower, the projector and the newline.
  absl::StatusOr<TensorView> Vision(int64_t layer, std::string_view suffix) const {
    ASSIGN_OR_RETURN(const TensorSpec* spec, Find(layer, suffix, true));
    return store_.Get(spec->name);
  }
  const WeightStore& store() const { return store_; }

 private:
  absl::StatusOr<const TensorSpec*> Find(int64_t layer, std::string_view suffix, bool vision) const {
    for (const TensorSpec& spec : table_) {
      const bool of_vision =
          spec.component == Component::kVisionTower || spec.component == Component::kProjector;
      if (spec.layer == layer && of_vision == vision && spec.name.ends_with(suffix)) return &spec;
    }
    return Internal("no tensor ends with {} in layer {}", suffix, layer);
  }

  const std::vector<TensorSpec>& table_;
  const WeightStore& store_;
};

}  // namespace fulger
