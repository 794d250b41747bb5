#include "coordinator/planner/planned_model.h"

#include <algorithm>
#include <filesystem>

#include "model/checkpoint/checkpoint.h"
#include "model/cost/rank_memory.h"
#include "model/shards/manifest.h"

namespace fulger {
namespace {

// The text model is VL-01's without the tower.
ModelConfig ReleasedText01() {
  ModelConfig config = ReleasedVl01Config();
  config.model_type = "minimax_text_01";
  config.vision.reset();
  config.image_token_id = -1;
  config.image_grid_pinpoints.clear();
  return config;
}

bool HasWeights(const std::string& dir) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    if (entry.path().extension() == ".safetensors") return true;
  }
  return false;
}

}  // namespace

int64_t PlannedModel::parameters() const {
  int64_t sum = 0;
  for (const TensorSpec& spec : table) sum += spec.elements();
  return sum;
}

int64_t PlannedModel::stored_bytes() const {
  int64_t sum = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    sum += table[i].elements() * static_cast<int64_t>(ByteSize(stored[i]));
  }
  return sum;
}

absl::StatusOr<PlannedModel> LoadPlannedModel(const std::string& model, bool widen) {
  PlannedModel planned;
  planned.name = model;
  const bool released = model == "minimax-vl-01" || model == "minimax-text-01";
  if (released) {
    planned.config = model == "minimax-vl-01" ? ReleasedVl01Config() : ReleasedText01();
    planned.source = "the released config, bfloat16; no files were read";
  } else {
    ASSIGN_OR_RETURN(planned.config, LoadModelConfig(model));
    planned.source = "config.json; no weights there, taken as bfloat16";
  }
  planned.table = TensorTable(planned.config);
  planned.stored.assign(planned.table.size(), DType::kBF16);
  if (!released && (IsSharded(model) || IsUnfinishedSharded(model))) {
    ASSIGN_OR_RETURN(const ShardedCopy copy, OpenSharded(model));
    planned.stored = copy.stored;
    planned.cut_for = copy.manifest.layout;
    planned.source = fmt::format("a copy cut for {}", ToString(copy.manifest.layout));
  } else if (!released && HasWeights(model)) {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(model, planned.config));
    RETURN_IF_ERROR(checkpoint.Complete());
    for (size_t i = 0; i < planned.table.size(); ++i) planned.stored[i] = checkpoint.source(i).dtype;
    planned.source = "config.json and the headers of the files";
  }
  for (const DType stored : planned.stored) planned.held.push_back(HeldType(stored, widen));
  return planned;
}

}  // namespace fulger
