// A checkpoint folder: which file holds which tensor of the model's table, and what is wrong with it.
//
// Open reads headers only: no weights, so a folder of 900 GB opens in well under a second once its headers
// are in the page cache. Files that cannot be understood fail Open; tensors that are missing, misshapen or
// unknown are listed in the audit, so that `fulger inspect` can show all of them at once.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/checkpoint/safetensors.h"
#include "model/config.h"
#include "model/tensors.h"

namespace fulger {

// Where the numbers of one TensorSpec lie: shape's elements, row-major and contiguous from `offset`.
struct TensorSource {
  int file = -1;  // index into Checkpoint::files(); -1: missing or unusable
  uint64_t offset = 0;
  DType dtype = DType::kF32;  // F32, BF16 or F16
};

struct Audit {
  struct Extra {
    std::string name, file;
  };
  struct Misfit {
    std::string name, file;  // as the checkpoint calls it
    std::string expected, found;
  };

  Naming naming = Naming::kReleased;     // the scheme that matches most tensors
  int64_t expected = 0;                  // tensors of the model's table
  int64_t resolved = 0;                  // of those, found with a usable shape and dtype
  std::vector<std::string> missing;      // names in the checkpoint's own scheme
  std::vector<Misfit> misfits;           // wrong shape or dtype, or the index points to another file
  std::vector<Extra> extra;              // not of this model: never read
  int64_t ignored = 0;                   // known buffers that are never read
  std::map<std::string, int64_t> bytes;  // per dtype name, of the resolved tensors

  bool ok() const { return missing.empty() && misfits.empty(); }
};
// One line per finding, at most `most` of each kind.
std::string ToString(const Audit& audit, size_t most = 10);

// Immutable after Open; any thread may use it.
class Checkpoint {
 public:
  // model.safetensors, else model.safetensors.index.json and its shards, else every *.safetensors of the
  // folder.
  static absl::StatusOr<Checkpoint> Open(const std::string& dir, const ModelConfig& config);

  const std::string& dir() const { return dir_; }
  const std::vector<TensorSpec>& table() const { return table_; }
  const TensorSource& source(size_t tensor) const { return sources_[tensor]; }  // index into table()
  const std::vector<SafetensorsFile>& files() const { return files_; }
  const Audit& audit() const { return audit_; }
  // OK, or what is missing or does not fit (the first findings and their number).
  absl::Status Complete() const;
  // SHA-256 over config.json, the index, and every file's name, size and header: equal on all ranks that see
  // the same checkpoint. Does not cover the weights themselves.
  const std::string& Fingerprint() const { return fingerprint_; }

 private:
  Checkpoint() = default;

  std::string dir_;
  std::vector<TensorSpec> table_;
  std::vector<TensorSource> sources_;
  std::vector<SafetensorsFile> files_;
  Audit audit_;
  std::string fingerprint_;
};

}  // namespace fulger
