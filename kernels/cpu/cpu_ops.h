// The ops on the CPU. Each .cc checks the arguments, cuts the work over the pool's threads and calls the
// inner kernels (kernels.h); how the work is cut never changes a row's bits.
#pragma once

#include "kernels/cpu/cpu_context.h"
#include "kernels/ops/ops.h"

namespace fulger {

class CpuOps final : public Ops {
 public:
  CpuOps(ComputePool& pool, const cpu::Kernels& kernels) : context_(pool, kernels) {}

  absl::Status Linear(Stream& stream, const LinearArgs& args) override;
  absl::Status RmsNorm(Stream& stream, const RmsNormArgs& args) override;
  absl::Status AddRmsNorm(Stream& stream, const AddRmsNormArgs& args) override;
  absl::Status AddScaled(Stream& stream, const AddScaledArgs& args) override;
  absl::Status LayerNorm(Stream& stream, const LayerNormArgs& args) override;
  absl::Status Lightning(Stream& stream, const LightningArgs& args) override;
  absl::Status LightningGate(Stream& stream, const LightningGateArgs& args) override;
  absl::Status ScaleByRms(Stream& stream, const ScaleByRmsArgs& args) override;
  absl::Status RopeAndCache(Stream& stream, const RopeAndCacheArgs& args) override;
  absl::Status PagedAttention(Stream& stream, const PagedAttentionArgs& args) override;
  absl::Status FullAttention(Stream& stream, const FullAttentionArgs& args) override;
  absl::Status Router(Stream& stream, const RouterArgs& args) override;
  absl::Status Moe(Stream& stream, const MoeArgs& args) override;
  absl::Status Embedding(Stream& stream, const EmbeddingArgs& args) override;
  absl::Status GatherRows(Stream& stream, const GatherRowsArgs& args) override;
  absl::Status ScatterRows(Stream& stream, const ScatterRowsArgs& args) override;
  absl::Status Gelu(Stream& stream, const GeluArgs& args) override;
  absl::Status Patchify(Stream& stream, const PatchifyArgs& args) override;
  absl::Status VitEmbed(Stream& stream, const VitEmbedArgs& args) override;

 private:
  CpuContext context_;
};

}  // namespace fulger
