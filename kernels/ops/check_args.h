// The checks every backend makes at the edge of an op: types, shapes, contiguity, ranges that the host can
// see. INVALID_ARGUMENT names the op and the operand: "Linear: w: expected [N, 64] F32|BF16, got [4, 63]
// BF16".
#pragma once

#include "base/status.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/lightning.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/moe.h"
#include "kernels/ops/norm.h"
#include "kernels/ops/rows.h"
#include "kernels/ops/vision.h"

namespace fulger {

absl::Status CheckArgs(const LinearArgs& args);
absl::Status CheckArgs(const RmsNormArgs& args);
absl::Status CheckArgs(const AddRmsNormArgs& args);
absl::Status CheckArgs(const AddScaledArgs& args);
absl::Status CheckArgs(const LayerNormArgs& args);
absl::Status CheckArgs(const LightningArgs& args);
absl::Status CheckArgs(const LightningGateArgs& args);
absl::Status CheckArgs(const ScaleByRmsArgs& args);
absl::Status CheckArgs(const RopeAndCacheArgs& args);
absl::Status CheckArgs(const PagedAttentionArgs& args);
absl::Status CheckArgs(const FullAttentionArgs& args);
absl::Status CheckArgs(const RouterArgs& args);
absl::Status CheckArgs(const MoeArgs& args);
absl::Status CheckArgs(const EmbeddingArgs& args);
absl::Status CheckArgs(const GatherRowsArgs& args);
absl::Status CheckArgs(const ScatterRowsArgs& args);
absl::Status CheckArgs(const GeluArgs& args);
absl::Status CheckArgs(const PatchifyArgs& args);
absl::Status CheckArgs(const VitEmbedArgs& args);

}  // namespace fulger
