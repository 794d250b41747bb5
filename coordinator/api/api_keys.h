// Who a client is, by its bearer key. For both edges.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "coordinator/frontend/admission.h"

namespace fulger {

struct ApiKey {
  std::string secret;
  ClientQuota client;
};

// The text of a file of keys, one a line: NAME SECRET [max-requests=N] [max-tokens=N]; empty lines and those
// that begin with # are left out. INVALID_ARGUMENT names the line, never the secret.
absl::StatusOr<std::vector<ApiKey>> ParseApiKeys(std::string_view text);

// Thread-safe.
class ApiKeyRing {
 public:
  // Secrets without names or quotas, besides those of `file` (may be empty: none).
  ApiKeyRing(std::vector<std::string> secrets, std::string file)
      : secrets_(std::move(secrets)), file_(std::move(file)) {}

  // Reads the file (again). On an error the keys are what they were. Call once before Check.
  absl::Status Reload();
  // UNAUTHENTICATED unless `authorization` ("Bearer KEY") holds one of the keys; no keys at all: all may
  // enter. Takes as long for a wrong key as for a right one.
  absl::StatusOr<ClientQuota> Check(std::string_view authorization) const;

 private:
  const std::vector<std::string> secrets_;
  const std::string file_;
  mutable std::mutex mu_;
  std::shared_ptr<const std::vector<ApiKey>> keys_ = std::make_shared<std::vector<ApiKey>>();
};

}  // namespace fulger
