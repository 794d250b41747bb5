// The ViT and the projector: tiles in, projected patch features out. Whole on every rank that holds it.
//
// CLIP without post-layernorm: patch convolution, class token, positions, pre-norm, then layers of
// { x += out(attn(LN1 x)); x += fc2(gelu(fc1(LN2 x))) }; the class token is dropped; Linear, GELU, Linear.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/picture/processor_config.h"
#include "worker/layers/context.h"
#include "worker/layers/weight_lookup.h"

namespace fulger {

class VisionTower {
 public:
  static absl::StatusOr<VisionTower> Make(const ModelConfig& config, const WeightLookup& weights,
                                          const ImageProcessorConfig& processor);

  // tiles u8 [n, S, S, 3] on the device -> out f32 [n * patches, text hidden]. Works through kTilesPerBatch
  // tiles at a time, so the arena's need (model/cost) does not depend on n; a batch reads every weight once,
  // and the features of a tile do not depend on the others.
  absl::Status Encode(ExecContext& ctx, const TensorView& tiles, const MutTensorView& out) const;
  // Which part gives NaN or infinity first for these few tiles, as an error names it ("vision layer 3");
  // empty when none does. A pass of its own that looks at what every part gives: only errors pay for it.
  absl::StatusOr<std::string> FirstBadPart(ExecContext& ctx, const TensorView& tiles) const;
  const TensorView& newline() const { return newline_; }

 private:
  struct Norm {
    TensorView weight, bias;
  };
  struct Layer {
    Norm norm1, norm2;
    Norm q, k, v, out, fc1, fc2;  // weight and bias
  };

  // Told of what each part gave: its name and its rows.
  using Inspect = std::function<absl::Status(const std::string& part, const TensorView& rows)>;

  absl::Status EncodeBatch(ExecContext& ctx, const TensorView& tiles, const MutTensorView& out,
                           const Inspect& inspect) const;
  absl::Status RunLayer(ExecContext& ctx, const Layer& layer, int64_t tiles, const MutTensorView& x) const;
  absl::Status Project(ExecContext& ctx, const TensorView& features, const MutTensorView& out) const;

  VisionConfig vision_;
  std::array<float, 3> mean_{}, std_{};
  TensorView patch_embedding_;  // [D, 3*p*p]
  TensorView class_embedding_, position_embedding_;
  Norm pre_norm_;
  std::vector<Layer> layers_;
  Norm linear1_, linear2_;
  TensorView newline_;
};

}  // namespace fulger
