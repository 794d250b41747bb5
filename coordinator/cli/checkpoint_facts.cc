#include "coordinator/cli/checkpoint_facts.h"

#include "base/log.h"
#include "model/checkpoint/checkpoint.h"

namespace fulger {

absl::StatusOr<CheckpointFacts> ReadCheckpointFacts(const std::string& dir, const ModelConfig& config) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir, config));
  RETURN_IF_ERROR(checkpoint.Complete());
  const Audit& audit = checkpoint.audit();
  CheckpointFacts facts{.fingerprint = checkpoint.Fingerprint(), .dtype = DType::kBF16};
  int64_t most = 0;
  for (const auto& [name, bytes] : audit.bytes) {
    if (bytes <= most) continue;
    most = bytes;
    facts.dtype = DTypeFromName(name).value_or(DType::kBF16);
  }
  // float16 is widened on load.
  if (facts.dtype == DType::kF16) facts.dtype = DType::kF32;
  if (!audit.extra.empty()) {
    LogWarn("{}: {} tensors that this model does not have, {} first; they are not read", dir,
            audit.extra.size(), audit.extra.front().name);
  }
  return facts;
}

}  // namespace fulger
