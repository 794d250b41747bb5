#include "coordinator/cli/first_model.h"

#include <nlohmann/json.hpp>

#include "coordinator/cli/conversation.h"

namespace fulger {

absl::StatusOr<std::string> FirstModel(const HttpClient& client) {
  ASSIGN_OR_RETURN(const ClientResponse response, client.Get("/v1/models"));
  if (response.status != 200) {
    return Unavailable("/v1/models answered {}: {}", response.status, ErrorText(response.body));
  }
  const auto json = nlohmann::json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  const nlohmann::json::json_pointer id("/data/0/id");
  if (json.is_discarded() || !json.contains(id) || !json[id].is_string()) {
    return Unavailable("/v1/models names no model: {}", response.body);
  }
  return json[id].get<std::string>();
}

}  // namespace fulger
