// The ops on a GPU. Each ops_*.cc checks the arguments as every backend does, lays out what the kernels read
// (tables of segments, scratch) and launches; the kernels are in the .cu files, launch.h is between them.
#pragma once

#include "kernels/cuda/cuda_context.h"
#include "kernels/ops/ops.h"

namespace fulger {

class CudaOps final : public Ops {
 public:
  explicit CudaOps(cuda::CudaContext& context) : c_(context) {}

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
  cudaStream_t stream() const { return c_.stream.get(); }
  // Launches go to the thread's current device.
  absl::Status Enter() const { return cuda::ToStatus(cudaSetDevice(c_.ordinal), "cudaSetDevice"); }
  absl::Status ManyRows(const cuda::ProductLaunch& launch);
  absl::Status MoePart(const MoeArgs& args, int64_t first, int64_t count);

  cuda::CudaContext& c_;
};

}  // namespace fulger
