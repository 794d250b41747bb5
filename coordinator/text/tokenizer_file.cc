#include "coordinator/text/tokenizer_file.h"

#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "coordinator/text/byte_alphabet.h"
#include "coordinator/text/utf8.h"

namespace fulger {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxId = (1 << 24) - 1;  // a wild id must not cost gigabytes
// GPT-2's own expression, which ByteLevel with use_regex applies without spelling it out.
constexpr std::string_view kByteLevelRegex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

absl::StatusOr<Json> ParseObject(std::string_view text) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& e) {
    return InvalidArgument("not JSON: {}", e.what());
  }
  if (!json.is_object()) return InvalidArgument("expected an object, found {}", json.type_name());
  return json;
}

// Null and absent are the same thing in these files.
const Json* Get(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<bool> GetBool(const Json& object, const char* key, const std::string& where, bool otherwise) {
  const Json* value = Get(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean())
    return InvalidArgument("{}.{}: expected true or false, found {}", where, key, value->type_name());
  return value->get<bool>();
}

absl::StatusOr<std::string> GetString(const Json& object, const char* key, const std::string& where) {
  const Json* value = Get(object, key);
  if (value == nullptr || !value->is_string()) {
    return InvalidArgument("{}.{}: expected a string, found {}", where, key,
                           value == nullptr ? "nothing" : value->type_name());
  }
  return value->get<std::string>();
}

absl::StatusOr<int32_t> GetId(const Json& value, const std::string& where) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > kMaxId) {
    return InvalidArgument("{}: expected an id from 0 to {}, found {}", where, kMaxId, value.dump());
  }
  return value.get<int32_t>();
}

class Reader {
 public:
  explicit Reader(const Json& root) : root_(root) {}

  absl::StatusOr<TokenizerFile> Run() {
    if (const Json* normalizer = Get(root_, "normalizer"); normalizer != nullptr) {
      return Unimplemented("normalizer: expected null, found {}", TypeOf(*normalizer));
    }
    const Json* model = Get(root_, "model");
    if (model == nullptr || !model->is_object()) return InvalidArgument("model: missing");
    RETURN_IF_ERROR(ReadModelFlags(*model));
    RETURN_IF_ERROR(ReadPreTokenizer());
    RETURN_IF_ERROR(ReadVocab(*model));
    RETURN_IF_ERROR(ReadAddedTokens());
    RETURN_IF_ERROR(ReadMerges(*model));
    RETURN_IF_ERROR(CheckUniqueIds());
    return std::move(file_);
  }

 private:
  static std::string TypeOf(const Json& value) {
    const Json* type = value.is_object() ? Get(value, "type") : nullptr;
    return type != nullptr && type->is_string() ? type->get<std::string>() : std::string(value.type_name());
  }

  absl::Status ReadModelFlags(const Json& model) {
    const Json* type = Get(model, "type");
    if (type == nullptr ? !model.contains("merges") : TypeOf(model) != "BPE") {
      return Unimplemented("model.type: expected BPE, found {}", type == nullptr ? "nothing" : TypeOf(model));
    }
    ASSIGN_OR_RETURN(const bool byte_fallback, GetBool(model, "byte_fallback", "model", false));
    if (byte_fallback) return Unimplemented("model.byte_fallback: expected false, found true");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json* value = Get(model, key);
      if (value != nullptr && *value != "")
        return Unimplemented("model.{}: expected none, found {}", key, value->dump());
    }
    if (const Json* dropout = Get(model, "dropout"); dropout != nullptr && *dropout != 0.0) {
      return Unimplemented("model.dropout: expected none, found {}", dropout->dump());
    }
    ASSIGN_OR_RETURN(file_.ignore_merges, GetBool(model, "ignore_merges", "model", false));
    return absl::OkStatus();
  }

  // ByteLevel alone, or a Sequence of a Split and a ByteLevel that does not split.
  absl::Status ReadPreTokenizer() {
    const Json* pre = Get(root_, "pre_tokenizer");
    if (pre == nullptr || !pre->is_object()) return InvalidArgument("pre_tokenizer: missing");
    std::vector<const Json*> steps{pre};
    if (TypeOf(*pre) == "Sequence") {
      steps.clear();
      const Json* list = Get(*pre, "pretokenizers");
      if (list == nullptr || !list->is_array())
        return InvalidArgument("pre_tokenizer.pretokenizers: expected a list");
      for (const Json& step : *list) steps.push_back(&step);
    }
    bool byte_level = false;
    for (const Json* step : steps) {
      const std::string type = TypeOf(*step);
      if (byte_level) return Unimplemented("pre_tokenizer: {} after ByteLevel", type);
      if (type == "Split") {
        RETURN_IF_ERROR(ReadSplit(*step));
      } else if (type == "ByteLevel") {
        RETURN_IF_ERROR(ReadByteLevel(*step));
        byte_level = true;
      } else {
        return Unimplemented("pre_tokenizer.type: expected ByteLevel or Split, found {}", type);
      }
    }
    if (!byte_level) return Unimplemented("pre_tokenizer: expected a ByteLevel at its end");
    return absl::OkStatus();
  }

  absl::Status SetRegex(std::string regex) {
    if (!file_.split_regex.empty()) return Unimplemented("pre_tokenizer: more than one regular expression");
    file_.split_regex = std::move(regex);
    return absl::OkStatus();
  }

  absl::Status ReadSplit(const Json& step) {
    ASSIGN_OR_RETURN(const std::string behavior, GetString(step, "behavior", "pre_tokenizer.Split"));
    if (behavior != "Isolated")
      return Unimplemented("pre_tokenizer.Split.behavior: expected Isolated, found {}", behavior);
    ASSIGN_OR_RETURN(const bool invert, GetBool(step, "invert", "pre_tokenizer.Split", false));
    if (invert) return Unimplemented("pre_tokenizer.Split.invert: expected false, found true");
    const Json* pattern = Get(step, "pattern");
    if (pattern == nullptr || !pattern->is_object())
      return InvalidArgument("pre_tokenizer.Split.pattern: missing");
    ASSIGN_OR_RETURN(std::string regex, GetString(*pattern, "Regex", "pre_tokenizer.Split.pattern"));
    if (regex.empty()) return InvalidArgument("pre_tokenizer.Split.pattern.Regex: empty");
    return SetRegex(std::move(regex));
  }

  absl::Status ReadByteLevel(const Json& step) {
    ASSIGN_OR_RETURN(const bool prefix, GetBool(step, "add_prefix_space", "pre_tokenizer.ByteLevel", true));
    if (prefix) return Unimplemented("pre_tokenizer.ByteLevel.add_prefix_space: expected false, found true");
    ASSIGN_OR_RETURN(const bool use_regex, GetBool(step, "use_regex", "pre_tokenizer.ByteLevel", true));
    if (use_regex) return SetRegex(std::string(kByteLevelRegex));
    if (file_.split_regex.empty()) {
      return Unimplemented("pre_tokenizer.ByteLevel.use_regex: false, and no Split before it");
    }
    return absl::OkStatus();
  }

  absl::Status ReadVocab(const Json& model) {
    const Json* vocab = Get(model, "vocab");
    if (vocab == nullptr || !vocab->is_object()) return InvalidArgument("model.vocab: expected an object");
    file_.pieces.reserve(vocab->size());
    ids_.reserve(vocab->size());
    for (const auto& [text, value] : vocab->items()) {
      ASSIGN_OR_RETURN(const int32_t id, GetId(value, fmt::format("model.vocab[\"{}\"]", text)));
      std::optional<std::string> bytes = BytesFromAlphabet(text);
      const bool in_alphabet = bytes.has_value() && !bytes->empty();
      file_.pieces.push_back({text, in_alphabet ? *std::move(bytes) : text, in_alphabet, id});
      ids_.emplace(text, id);
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedTokens() {
    const Json* list = Get(root_, "added_tokens");
    if (list == nullptr) return absl::OkStatus();
    if (!list->is_array())
      return InvalidArgument("added_tokens: expected a list, found {}", list->type_name());
    for (size_t i = 0; i < list->size(); ++i) {
      const std::string where = fmt::format("added_tokens[{}]", i);
      RETURN_IF_ERROR(ReadAddedToken((*list)[i], where));
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedToken(const Json& json, const std::string& where) {
    if (!json.is_object())
      return InvalidArgument("{}: expected an object, found {}", where, json.type_name());
    AddedToken token;
    const auto id = json.find("id");
    if (id == json.end()) return InvalidArgument("{}.id: missing", where);
    ASSIGN_OR_RETURN(token.id, GetId(*id, where + ".id"));
    ASSIGN_OR_RETURN(token.content, GetString(json, "content", where));
    if (token.content.empty()) return InvalidArgument("{}.content: empty", where);
    ASSIGN_OR_RETURN(token.special, GetBool(json, "special", where, false));
    ASSIGN_OR_RETURN(token.lstrip, GetBool(json, "lstrip", where, false));
    ASSIGN_OR_RETURN(token.rstrip, GetBool(json, "rstrip", where, false));
    ASSIGN_OR_RETURN(token.normalized, GetBool(json, "normalized", where, !token.special));
    ASSIGN_OR_RETURN(const bool single_word, GetBool(json, "single_word", where, false));
    if (single_word)
      return Unimplemented("{}.single_word: expected false, found true (\"{}\")", where, token.content);
    const auto known = ids_.find(token.content);
    if (known != ids_.end() && known->second != token.id) {
      return InvalidArgument("{}: \"{}\" has id {}, model.vocab says {}", where, token.content, token.id,
                             known->second);
    }
    if (token.special) special_.emplace(token.id, token.content);
    file_.added_tokens.push_back(std::move(token));
    return absl::OkStatus();
  }

  absl::StatusOr<int32_t> IdOf(const std::string& piece, size_t merge) const {
    const auto it = ids_.find(piece);
    if (it == ids_.end())
      return InvalidArgument("model.merges[{}]: \"{}\" is not in model.vocab", merge, piece);
    return it->second;
  }

  absl::Status ReadMerges(const Json& model) {
    const Json* merges = Get(model, "merges");
    if (merges == nullptr || !merges->is_array()) return InvalidArgument("model.merges: expected a list");
    file_.merges.reserve(merges->size());
    std::string left;
    std::string right;
    for (size_t i = 0; i < merges->size(); ++i) {
      const Json& entry = (*merges)[i];
      if (entry.is_string() && entry.get_ref<const std::string&>().starts_with("#version")) continue;
      RETURN_IF_ERROR(SplitMerge(entry, i, &left, &right));
      TokenizerFile::Merge merge{};
      ASSIGN_OR_RETURN(merge.left, IdOf(left, i));
      ASSIGN_OR_RETURN(merge.right, IdOf(right, i));
      ASSIGN_OR_RETURN(merge.result, IdOf(left + right, i));
      // Else what a user types could become a control token.
      if (const auto it = special_.find(merge.result); it != special_.end()) {
        return InvalidArgument("model.merges[{}]: makes the special token \"{}\"", i, it->second);
      }
      file_.merges.push_back(merge);
    }
    return absl::OkStatus();
  }

  static absl::Status SplitMerge(const Json& entry, size_t i, std::string* left, std::string* right) {
    if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
      *left = entry[0].get<std::string>();
      *right = entry[1].get<std::string>();
      return absl::OkStatus();
    }
    if (entry.is_string()) {
      const std::string& text = entry.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
        *left = text.substr(0, space);
        *right = text.substr(space + 1);
        return absl::OkStatus();
      }
    }
    return InvalidArgument("model.merges[{}]: expected \"a b\" or [\"a\", \"b\"], found {}", i, entry.dump());
  }

  absl::Status CheckUniqueIds() const {
    std::unordered_map<int32_t, std::string_view> owners;
    owners.reserve(file_.pieces.size() + file_.added_tokens.size());
    const auto add = [&](int32_t id, std::string_view text) -> absl::Status {
      const auto [it, fresh] = owners.emplace(id, text);
      if (fresh || it->second == text) return absl::OkStatus();
      return InvalidArgument("id {} belongs to both \"{}\" and \"{}\"", id, it->second, text);
    };
    for (const TokenizerFile::Piece& piece : file_.pieces) {
      RETURN_IF_ERROR(add(piece.id, piece.text));
      if (piece.bytes.size() == 1 && piece.in_alphabet && special_.contains(piece.id)) {
        return InvalidArgument("special token \"{}\" is also the piece of a byte", piece.text);
      }
    }
    std::unordered_map<std::string_view, int32_t> contents;
    for (const AddedToken& token : file_.added_tokens) {
      RETURN_IF_ERROR(add(token.id, token.content));
      if (!contents.emplace(token.content, token.id).second) {
        return InvalidArgument("added_tokens: \"{}\" is listed twice", token.content);
      }
    }
    return absl::OkStatus();
  }

  const Json& root_;
  TokenizerFile file_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<int32_t, std::string> special_;
};

}  // namespace

absl::StatusOr<TokenizerFile> ParseTokenizerJson(std::string_view json) {
  ASSIGN_OR_RETURN(const Json root, ParseObject(json));
  try {
    return Reader(root).Run();
  } catch (const Json::exception& e) {
    return InvalidArgument("unexpected structure: {}", e.what());
  }
}

absl::StatusOr<SpecialTokenNames> ParseTokenizerConfig(std::string_view json) {
  ASSIGN_OR_RETURN(const Json root, ParseObject(json));
  SpecialTokenNames names;
  for (const auto& [key, name] :
       {std::pair{"bos_token", &names.bos}, {"eos_token", &names.eos}, {"unk_token", &names.unk}}) {
    const Json* value = Get(root, key);
    if (value == nullptr) continue;
    if (value->is_object()) {
      ASSIGN_OR_RETURN(*name, GetString(*value, "content", key));
    } else if (value->is_string()) {
      *name = value->get<std::string>();
    } else {
      return InvalidArgument("{}: expected a string or an object, found {}", key, value->type_name());
    }
  }
  return names;
}

}  // namespace fulger
