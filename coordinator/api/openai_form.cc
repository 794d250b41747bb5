#include "coordinator/api/openai_form.h"

#include <algorithm>
#include <utility>

#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

using nlohmann::json;
using Ordered = nlohmann::ordered_json;

Ordered InOrder(std::string_view body) { return Ordered::parse(body, nullptr, /*allow_exceptions=*/false); }

bool IsToolName(std::string_view name) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !name.empty() && name.size() <= 64 && name.find_first_not_of(kLetters) == std::string_view::npos;
}

// The tools as the answer's form sees them: the schema of those that ask to be taken strictly.
absl::StatusOr<std::vector<AnswerForm::Tool>> ToolForms(const Ordered& tools) {
  std::vector<AnswerForm::Tool> forms;
  for (size_t i = 0; i < tools.size(); ++i) {
    const json function = tools[i].at("function");
    const JsonFields fields(function, fmt::format("tools[{}].function.", i));
    AnswerForm::Tool& form = forms.emplace_back();
    form.field = fields.Path("parameters");
    RETURN_IF_ERROR(fields.String("name", &form.name));
    bool strict = false;
    RETURN_IF_ERROR(fields.Bool("strict", &strict));
    if (strict && fields.Find("parameters") != nullptr)
      form.schema = tools[i].at("function").at("parameters").dump();
  }
  return forms;
}

struct ToolChoice {
  enum class Kind { kAuto, kNone, kRequired, kNamed } kind = Kind::kAuto;
  std::string name;
};

absl::StatusOr<ToolChoice> ReadToolChoice(const JsonFields& f) {
  const json* choice = f.Find("tool_choice");
  const std::string path = f.Path("tool_choice");
  if (choice == nullptr || *choice == "auto") return ToolChoice{};
  if (*choice == "none") return ToolChoice{.kind = ToolChoice::Kind::kNone, .name = {}};
  if (*choice == "required") return ToolChoice{.kind = ToolChoice::Kind::kRequired, .name = {}};
  if (!choice->is_object()) {
    return FieldError(
        path, "expected auto, none, required or {{\"type\": \"function\", \"function\": {{\"name\": ...}}}}");
  }
  ToolChoice named{.kind = ToolChoice::Kind::kNamed, .name = {}};
  std::string type;
  RETURN_IF_ERROR(JsonFields(*choice, path + ".").String("type", &type));
  if (type != "function") return FieldError(path + ".type", "expected function, found \"{}\"", type);
  const json* function = JsonFields(*choice).Find("function");
  if (function == nullptr || !function->is_object()) return FieldError(path + ".function", "missing");
  RETURN_IF_ERROR(JsonFields(*function, path + ".function.").String("name", &named.name));
  return named;
}

absl::Status CheckTools(const JsonFields& f, const Ordered& tools) {
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string path = fmt::format("{}[{}]", f.Path("tools"), i);
    const json tool = tools[i];
    if (!tool.is_object()) return FieldError(path, "expected an object, found {}", JsonKind(tool));
    const json* function = JsonFields(tool).Find("function");
    if (function == nullptr || !function->is_object()) return FieldError(path + ".function", "missing");
    std::string name;
    RETURN_IF_ERROR(JsonFields(*function, path + ".function.").String("name", &name));
    if (!IsToolName(name)) {
      return FieldError(path + ".function.name",
                        "expected 1 to 64 letters, digits, '_', '-' or '.', found \"{}\"", name);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadTools(const JsonFields& f, std::string_view body, GenerateInput* input) {
  const json* tools = f.Find("tools");
  if (tools == nullptr) return absl::OkStatus();
  if (!tools->is_array()) return FieldError(f.Path("tools"), "expected a list, found {}", JsonKind(*tools));
  if (tools->empty()) return absl::OkStatus();
  const Ordered ordered = InOrder(body).at("tools");
  RETURN_IF_ERROR(CheckTools(f, ordered));
  for (const Ordered& tool : ordered) input->tools.push_back(tool.dump());
  return absl::OkStatus();
}

absl::Status ReadResponseFormat(const JsonFields& f, std::string_view body, GenerateInput* input) {
  const json* format = f.Find("response_format");
  if (format == nullptr) return absl::OkStatus();
  const std::string path = f.Path("response_format");
  if (!format->is_object()) return FieldError(path, "expected an object, found {}", JsonKind(*format));
  std::string type;
  RETURN_IF_ERROR(JsonFields(*format, path + ".").String("type", &type));
  if (type == "text") return absl::OkStatus();
  if (type == "json_object") {
    input->form = AnswerForm{.kind = AnswerForm::Kind::kJsonObject, .field = path};
    return absl::OkStatus();
  }
  if (type != "json_schema") {
    return FieldError(path + ".type", "expected text, json_object or json_schema, found \"{}\"", type);
  }
  const json* holder = JsonFields(*format).Find("json_schema");
  if (holder == nullptr || !holder->is_object()) return FieldError(path + ".json_schema", "missing");
  if (JsonFields(*holder).Find("schema") == nullptr)
    return FieldError(path + ".json_schema.schema", "missing");
  input->form =
      AnswerForm{.kind = AnswerForm::Kind::kJsonSchema,
                 .schema = InOrder(body).at("response_format").at("json_schema").at("schema").dump(),
                 .field = path + ".json_schema.schema"};
  return absl::OkStatus();
}

absl::Status ReadAnswerForm(const JsonFields& f, std::string_view body, OpenAiRequest* out,
                            GenerateInput* input) {
  RETURN_IF_ERROR(ReadResponseFormat(f, body, input));
  ASSIGN_OR_RETURN(const ToolChoice choice, ReadToolChoice(f));
  bool parallel = true;
  RETURN_IF_ERROR(f.Bool("parallel_tool_calls", &parallel));
  RETURN_IF_ERROR(ReadTools(f, body, input));
  if (choice.kind == ToolChoice::Kind::kNone) input->tools.clear();
  if (input->tools.empty()) {
    if (choice.kind == ToolChoice::Kind::kRequired || choice.kind == ToolChoice::Kind::kNamed) {
      return FieldError(f.Path("tool_choice"), "there are no tools");
    }
    return absl::OkStatus();
  }
  out->one_call = !parallel;
  const Ordered tools = InOrder(body).at("tools");
  ASSIGN_OR_RETURN(std::vector<AnswerForm::Tool> forms, ToolForms(tools));
  if (choice.kind == ToolChoice::Kind::kNamed) {
    std::erase_if(forms, [&](const AnswerForm::Tool& tool) { return tool.name != choice.name; });
    if (forms.empty())
      return FieldError(f.Path("tool_choice.function.name"), "there is no tool \"{}\"", choice.name);
  }
  // Left to itself the model writes calls as it likes, unless one of the tools asks to be taken strictly, or
  // what is no call has a form: then an answer is calls or a value. Where calls are required there is no
  // other text to have one.
  const bool left_alone = choice.kind == ToolChoice::Kind::kAuto;
  const bool strict =
      std::ranges::any_of(forms, [](const AnswerForm::Tool& tool) { return !tool.schema.empty(); });
  if (left_alone && !strict && !input->form) return absl::OkStatus();
  AnswerForm form{.kind = AnswerForm::Kind::kToolCalls,
                  .field = f.Path(left_alone ? "tools" : "tool_choice"),
                  .tools = std::move(forms),
                  .several = parallel && choice.kind != ToolChoice::Kind::kNamed,
                  .text = left_alone};
  if (left_alone && input->form) {
    form.text = false;
    form.field = input->form->field;
    form.schema = input->form->kind == AnswerForm::Kind::kJsonObject ? R"({"type":"object"})"
                                                                     : std::move(input->form->schema);
  }
  input->form = std::move(form);
  return absl::OkStatus();
}

}  // namespace fulger
