// What a plan knows of a model: its config, its tensors and the types in which they lie on disk and in
// memory.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/tensors.h"

namespace fulger {

struct PlannedModel {
  std::string name;    // "minimax-vl-01", or the folder
  std::string source;  // where the types come from
  ModelConfig config;
  std::vector<TensorSpec> table;
  std::vector<DType> stored;      // per tensor of the table
  std::vector<DType> held;        // in memory
  std::optional<Layout> cut_for;  // a copy that fulger shard has made serves this layout alone

  int64_t parameters() const;
  int64_t stored_bytes() const;
};

// "minimax-vl-01" and "minimax-text-01" need no files: the released config, everything bfloat16. Anything
// else is a checkpoint folder: its config.json, and its files' headers where there are files (an incomplete
// checkpoint is refused), else bfloat16. `widen`: as --weight-dtype f32.
absl::StatusOr<PlannedModel> LoadPlannedModel(const std::string& model, bool widen);

}  // namespace fulger
