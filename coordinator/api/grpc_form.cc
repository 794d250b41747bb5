#include "coordinator/api/grpc_form.h"

#include <nlohmann/json.hpp>

#include "coordinator/api/json_fields.h"
#include "coordinator/api/openai_form.h"
#include "coordinator/api/openai_request.h"
#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;  // properties of schemas keep their order

absl::StatusOr<Json> Parsed(const std::string& text, const std::string& field) {
  // The limits of a client's JSON.
  const absl::StatusOr<nlohmann::json> checked = ParseJsonObject(text);
  if (!checked.ok()) return FieldError(field, "{}", Message(checked.status()));
  return Json::parse(text);
}

Json ToolChoiceOf(const std::string& choice) {
  if (choice.empty() || choice == "auto" || choice == "none" || choice == "required") {
    return choice.empty() ? "auto" : choice;
  }
  return {{"type", "function"}, {"function", {{"name", choice}}}};
}

}  // namespace

absl::Status ReadGrpcForm(const v1::GenerateRequest& request, GenerateInput* input, bool* one_call) {
  const v1::AnswerForm& form = request.form();
  Json body = Json::object();
  for (int i = 0; i < request.chat().tools_size(); ++i) {
    ASSIGN_OR_RETURN(Json tool, Parsed(request.chat().tools(i), fmt::format("tools[{}]", i)));
    body["tools"].push_back(std::move(tool));
  }
  body["tool_choice"] = ToolChoiceOf(form.tool_choice());
  body["parallel_tool_calls"] = !form.single_call();
  if (form.has_json_schema()) {
    ASSIGN_OR_RETURN(Json schema, Parsed(form.json_schema(), "response_format.json_schema.schema"));
    body["response_format"] = {{"type", "json_schema"}, {"json_schema", {{"schema", std::move(schema)}}}};
  } else if (form.json_object()) {
    body["response_format"] = {{"type", "json_object"}};
  }
  const std::string text = body.dump();
  const nlohmann::json fields = nlohmann::json::parse(text);
  OpenAiRequest read;
  RETURN_IF_ERROR(ReadAnswerForm(JsonFields(fields), text, &read, input));
  *one_call = read.one_call;
  return absl::OkStatus();
}

}  // namespace fulger
