// Which checkpoint a copy was made from, and whether that has changed since.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/checkpoint/checkpoint.h"

namespace fulger {

struct SourceFile {
  std::string name;
  uint64_t bytes = 0;
  int64_t mtime_ns = 0;
  std::string header_hash;  // as SafetensorsFile's
  std::string sample_hash;  // SHA-256 over 16 pieces of 4 KiB, evenly spaced

  bool operator==(const SourceFile&) const = default;
};

struct SourceIdentity {
  std::string path;  // absolute, when the copy was made
  std::string fingerprint;
  std::string config_hash;  // SHA-256 of config.json
  std::vector<SourceFile> files;

  bool operator==(const SourceIdentity&) const = default;
};

absl::StatusOr<SourceIdentity> IdentifySource(const Checkpoint& checkpoint);

// OK: the checkpoint is as it was, or cannot be looked at: `note` (never null) says which, where that is
// worth a line. FAILED_PRECONDITION: it has changed; the message names the first file that has. Sizes and
// times alone where they are as they were; a file with another time is sampled, so that one that was only
// touched or copied does not count.
absl::Status CheckSourceUnchanged(const SourceIdentity& source, std::string* note);

}  // namespace fulger
