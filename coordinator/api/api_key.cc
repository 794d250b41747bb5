#include "coordinator/api/api_key.h"

namespace fulger {
namespace {

bool SameKey(std::string_view given, std::string_view key) {
  unsigned char difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size() && !key.empty(); ++i) {
    difference |= static_cast<unsigned char>(given[i] ^ key[i % key.size()]);
  }
  return difference == 0 && !key.empty();
}

}  // namespace

absl::Status CheckApiKey(const std::vector<std::string>& keys, std::string_view authorization) {
  if (keys.empty()) return absl::OkStatus();
  constexpr std::string_view kBearer = "Bearer ";
  if (authorization.starts_with(kBearer)) authorization.remove_prefix(kBearer.size());
  bool known = false;
  for (const std::string& key : keys) known = SameKey(authorization, key) || known;
  if (known) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kUnauthenticated,
                    "expected an API key in the header \"Authorization: Bearer ...\"");
}

}  // namespace fulger
