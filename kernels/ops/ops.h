// The seam between the model and the machine: one pure virtual per op, each contract in its own header beside
// this one. The CPU implementation is the specification; a missing op fails to compile.
//
// Views are checked at this edge (shape, type, contiguity): a mismatch is INVALID_ARGUMENT naming op and
// operand. Work is ordered on the stream. Ops keep grow-only scratch of their own: a repeated step allocates
// nothing.
#pragma once

#include "base/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/lightning.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/moe.h"
#include "kernels/ops/norm.h"
#include "kernels/ops/rows.h"
#include "kernels/ops/vision.h"

namespace fulger {

class Ops {
 public:
  virtual ~Ops() = default;

  virtual absl::Status Linear(Stream& stream, const LinearArgs& args) = 0;
  virtual absl::Status RmsNorm(Stream& stream, const RmsNormArgs& args) = 0;
  virtual absl::Status AddRmsNorm(Stream& stream, const AddRmsNormArgs& args) = 0;
  virtual absl::Status AddScaled(Stream& stream, const AddScaledArgs& args) = 0;
  virtual absl::Status LayerNorm(Stream& stream, const LayerNormArgs& args) = 0;
  virtual absl::Status Lightning(Stream& stream, const LightningArgs& args) = 0;
  virtual absl::Status LightningGate(Stream& stream, const LightningGateArgs& args) = 0;
  virtual absl::Status ScaleByRms(Stream& stream, const ScaleByRmsArgs& args) = 0;
  virtual absl::Status RopeAndCache(Stream& stream, const RopeAndCacheArgs& args) = 0;
  virtual absl::Status PagedAttention(Stream& stream, const PagedAttentionArgs& args) = 0;
  virtual absl::Status FullAttention(Stream& stream, const FullAttentionArgs& args) = 0;
  virtual absl::Status Router(Stream& stream, const RouterArgs& args) = 0;
  virtual absl::Status Moe(Stream& stream, const MoeArgs& args) = 0;
  virtual absl::Status Embedding(Stream& stream, const EmbeddingArgs& args) = 0;
  virtual absl::Status GatherRows(Stream& stream, const GatherRowsArgs& args) = 0;
  virtual absl::Status ScatterRows(Stream& stream, const ScatterRowsArgs& args) = 0;
  virtual absl::Status Gelu(Stream& stream, const GeluArgs& args) = 0;
  virtual absl::Status Patchify(Stream& stream, const PatchifyArgs& args) = 0;
  virtual absl::Status VitEmbed(Stream& stream, const VitEmbedArgs& args) = 0;
};

}  // namespace fulger
