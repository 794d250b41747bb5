// The checkpoint's own template is never run, only recognised.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/sha256.h"
#include "coordinator/text/chat_template.h"

namespace fulger {
namespace {

using Json = nlohmann::json;

// "chat_template" of a JSON file: a string, or a list of {name, template}. Empty where there is none.
absl::StatusOr<std::string> TemplateOfJson(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return InvalidArgument("{}: expected a JSON object", path);
  const auto it = json.find("chat_template");
  if (it == json.end() || it->is_null()) return std::string();
  if (it->is_string()) return it->get<std::string>();
  if (it->is_array()) {
    for (const Json& entry : *it) {
      const bool named = entry.is_object() && entry.contains("name") && entry["name"] == "default" &&
                         entry.contains("template") && entry["template"].is_string();
      if (named) return entry["template"].get<std::string>();
    }
  }
  return InvalidArgument("{}: chat_template: expected a string or a list with a \"default\"", path);
}

struct KnownTemplate {
  std::string_view hash;
  ChatForm form;
};
// tests/golden/text/chat_template_*.jinja, which the goldens are rendered with and our small checkpoints
// carry.
constexpr KnownTemplate kKnown[] = {
    {"6568e898b1e5ced5a6db4a94d981cae1c85aa88b4ac890d6d682000c7fc7b72d", ChatForm::kVl01},
    {"13009b79e0733265bef6dcf048268d84848627f7a133536c19634fc8539684bd", ChatForm::kText01},
};

}  // namespace

absl::StatusOr<std::string> TemplateHash(const std::string& dir) {
  if (const std::string path = dir + "/chat_template.jinja"; FileExists(path)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    return Sha256Hex(text);
  }
  for (const char* name : {"/chat_template.json", "/tokenizer_config.json"}) {
    if (!FileExists(dir + name)) continue;
    ASSIGN_OR_RETURN(const std::string text, TemplateOfJson(dir + name));
    if (!text.empty()) return Sha256Hex(text);
  }
  return NotFound("{}: no chat template in chat_template.jinja, chat_template.json or tokenizer_config.json",
                  dir);
}

std::optional<ChatForm> ChatFormOfTemplate(std::string_view hash) {
  for (const KnownTemplate& known : kKnown) {
    if (known.hash == hash) return known.form;
  }
  return std::nullopt;
}

}  // namespace fulger
