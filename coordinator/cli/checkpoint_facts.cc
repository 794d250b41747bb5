#include "coordinator/cli/checkpoint_facts.h"

#include <utility>

#include "base/log.h"
#include "model/checkpoint/checkpoint.h"

namespace fulger {
namespace {

// float16 is widened on load.
DType Held(DType stored) { return stored == DType::kF16 ? DType::kF32 : stored; }

absl::StatusOr<CheckpointFacts> FactsOfCopy(const std::string& dir, bool allow_stale) {
  ASSIGN_OR_RETURN(ShardedCopy copy, OpenSharded(dir));
  RETURN_IF_ERROR(CheckRankFilesThere(copy));
  std::string note;
  const SourceIdentity& source = copy.manifest.source;
  const absl::Status changed = CheckSourceUnchanged(source, &note);
  if (!changed.ok() && !allow_stale) {
    return Annotate(
        FailedPrecondition("{}; make the copy again (remove it, then fulger shard {} --out {}), or serve it "
                           "as it is with --allow-stale-copy",
                           Message(changed), source.path, dir),
        dir);
  }
  if (!changed.ok()) LogWarn("{}: {}; served as it is (--allow-stale-copy)", dir, Message(changed));
  if (!note.empty()) LogInfo("{}: {}", dir, note);
  CheckpointFacts facts{.fingerprint = copy.fingerprint, .dtype = Held(copy.manifest.dtype), .copy = {}};
  facts.copy = std::move(copy);
  return facts;
}

}  // namespace

absl::StatusOr<CheckpointFacts> ReadCheckpointFacts(const std::string& dir, const ModelConfig& config,
                                                    bool allow_stale_copy) {
  if (IsSharded(dir) || IsUnfinishedSharded(dir)) return FactsOfCopy(dir, allow_stale_copy);
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir, config));
  RETURN_IF_ERROR(checkpoint.Complete());
  const Audit& audit = checkpoint.audit();
  CheckpointFacts facts{.fingerprint = checkpoint.Fingerprint(), .dtype = DType::kBF16, .copy = {}};
  int64_t most = 0;
  for (const auto& [name, bytes] : audit.bytes) {
    if (bytes <= most) continue;
    most = bytes;
    facts.dtype = DTypeFromName(name).value_or(DType::kBF16);
  }
  facts.dtype = Held(facts.dtype);
  if (!audit.extra.empty()) {
    LogWarn("{}: {} tensors that this model does not have, {} first; they are not read", dir,
            audit.extra.size(), audit.extra.front().name);
  }
  return facts;
}

}  // namespace fulger
