#include "worker/weights/weight_source.h"

#include <optional>
#include <utility>

#include "base/check.h"
#include "model/shards/manifest.h"

namespace fulger {
namespace {

class CheckpointSource final : public WeightSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  explicit CheckpointSource(Checkpoint&& checkpoint) : owned_(std::move(checkpoint)), checkpoint_(*owned_) {}

  const std::vector<TensorSpec>& table() const override { return checkpoint_.table(); }
  DType stored(size_t tensor) const override { return checkpoint_.source(tensor).dtype; }
  const std::string& fingerprint() const override { return checkpoint_.Fingerprint(); }
  bool int8() const override { return false; }

  SliceSource Find(const TensorSlice& slice, bool scales) const override {
    FULGER_CHECK(!scales, "{}: a checkpoint has no scales", table()[slice.tensor].name);
    const TensorSpec& spec = table()[slice.tensor];
    const TensorSource& source = checkpoint_.source(slice.tensor);
    int64_t columns = 1;  // of the stored tensor; dimensions past the second are whole
    int64_t inner = 1;
    if (spec.shape.size() > 1) columns = spec.shape[1];
    for (size_t d = 2; d < spec.shape.size(); ++d) inner *= spec.shape[d];
    SliceSource s;
    s.file = &checkpoint_.files()[static_cast<size_t>(source.file)].file();
    s.stored = source.dtype;
    s.rows = slice.rows.size();
    s.width = slice.columns.size() * inner;
    s.stride = columns * inner;
    const int64_t first = slice.rows.begin * s.stride + slice.columns.begin * inner;
    s.offset = source.offset + static_cast<uint64_t>(first * static_cast<int64_t>(ByteSize(s.stored)));
    return s;
  }

 private:
  const std::optional<Checkpoint> owned_;
  const Checkpoint& checkpoint_;
};

class RankFileSource final : public WeightSource {
 public:
  RankFileSource(ShardedCopy copy, RankFile file) : copy_(std::move(copy)), file_(std::move(file)) {}

  const std::vector<TensorSpec>& table() const override { return copy_.table; }
  DType stored(size_t tensor) const override { return copy_.stored[tensor]; }
  const std::string& fingerprint() const override { return copy_.fingerprint; }
  bool int8() const override { return true; }

  SliceSource Find(const TensorSlice& slice, bool scales) const override {
    const RankTensor* tensor = file_.Find(slice.tensor, scales);
    // The plan that made the file's form is the one that asks.
    FULGER_CHECK(tensor != nullptr, "{}: not in {}", table()[slice.tensor].name, file_.file().path());
    SliceSource s;
    s.file = &file_.file();
    s.offset = tensor->offset;
    s.stored = tensor->dtype;
    s.width = s.stride = tensor->bytes / static_cast<int64_t>(ByteSize(tensor->dtype));
    s.sums = file_.sums(*tensor);
    s.block_bytes = file_.block_bytes();
    return s;
  }

 private:
  const ShardedCopy copy_;
  const RankFile file_;
};

}  // namespace

std::unique_ptr<WeightSource> MakeCheckpointSource(const Checkpoint& checkpoint) {
  return std::make_unique<CheckpointSource>(checkpoint);
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const std::string& dir, const ModelConfig& config,
                                                          const Plan& plan, int rank) {
  if (IsSharded(dir) || IsUnfinishedSharded(dir)) {
    ASSIGN_OR_RETURN(ShardedCopy copy, OpenSharded(dir));
    RETURN_IF_ERROR(CheckLayout(copy, plan.layout));
    if (copy.plan.hash != plan.hash) {
      return FailedPrecondition("{}: cut by plan {}, the rank's is {}", dir, copy.plan.hash.substr(0, 12),
                                plan.hash.substr(0, 12));
    }
    ASSIGN_OR_RETURN(RankFile file, OpenRankFile(copy, rank));
    return std::make_unique<RankFileSource>(std::move(copy), std::move(file));
  }
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(dir, config));
  RETURN_IF_ERROR(checkpoint.Complete());
  return std::make_unique<CheckpointSource>(std::move(checkpoint));
}

}  // namespace fulger
