#include "coordinator/api/api_keys.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/file.h"
#include "base/log.h"

namespace fulger {
namespace {

bool SameKey(std::string_view given, std::string_view key) {
  unsigned char difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size() && !key.empty(); ++i) {
    difference |= static_cast<unsigned char>(given[i] ^ key[i % key.size()]);
  }
  return difference == 0 && !key.empty();
}

absl::Status ReadOption(std::string_view word, int number, ClientQuota* client) {
  for (const auto& [name, out] : {std::pair(std::string_view("max-requests="), &client->max_requests),
                                  std::pair(std::string_view("max-tokens="), &client->max_tokens)}) {
    if (!word.starts_with(name)) continue;
    const std::string_view digits = word.substr(name.size());
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *out);
    if (error != std::errc() || end != digits.data() + digits.size() || *out <= 0) {
      return InvalidArgument("line {}: {}: expected a whole number above 0", number,
                             name.substr(0, name.size() - 1));
    }
    return absl::OkStatus();
  }
  return InvalidArgument(
      "line {}: expected NAME SECRET [max-requests=N] [max-tokens=N], found a fourth word or more that "
      "is neither",
      number);
}

}  // namespace

absl::StatusOr<std::vector<ApiKey>> ParseApiKeys(std::string_view text) {
  std::vector<ApiKey> keys;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line);
    ApiKey key;
    std::string word;
    if (!(words >> key.client.name) || key.client.name.starts_with('#')) continue;
    if (!(words >> key.secret))
      return InvalidArgument("line {}: expected NAME SECRET, found one word", number);
    while (words >> word) RETURN_IF_ERROR(ReadOption(word, number, &key.client));
    for (const ApiKey& other : keys) {
      if (other.secret == key.secret) {
        return InvalidArgument("line {}: {} has the secret of {}", number, key.client.name,
                               other.client.name);
      }
    }
    keys.push_back(std::move(key));
  }
  return keys;
}

absl::Status ApiKeyRing::Reload() {
  auto keys = std::make_shared<std::vector<ApiKey>>();
  if (!file_.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(file_));
    auto read = ParseApiKeys(text);
    if (!read.ok()) return Annotate(read.status(), file_);
    if (read->empty()) return InvalidArgument("{}: no keys: nobody could enter", file_);
    *keys = *std::move(read);
  }
  for (const std::string& secret : secrets_) keys->push_back({.secret = secret, .client = {}});
  std::lock_guard lock(mu_);
  keys_ = std::move(keys);
  return absl::OkStatus();
}

absl::StatusOr<ClientQuota> ApiKeyRing::Check(std::string_view authorization) const {
  std::shared_ptr<const std::vector<ApiKey>> keys;
  {
    std::lock_guard lock(mu_);
    keys = keys_;
  }
  if (keys->empty()) return ClientQuota{};
  constexpr std::string_view kBearer = "Bearer ";
  if (authorization.starts_with(kBearer)) authorization.remove_prefix(kBearer.size());
  const ApiKey* known = nullptr;
  for (const ApiKey& key : *keys) {
    if (SameKey(authorization, key.secret)) known = &key;
  }
  if (known != nullptr) return known->client;
  return MakeStatus(absl::StatusCode::kUnauthenticated,
                    "expected an API key in the header \"Authorization: Bearer ...\"");
}

}  // namespace fulger
