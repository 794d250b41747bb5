#include "coordinator/eval/question_file.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/file.h"
#include "coordinator/cli/conversation.h"
#include "coordinator/eval/python_text.h"

namespace fulger {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxFileBytes = uint64_t{16} << 30;
constexpr size_t kLongestReference = 64;  // characters of an index in the place of a picture
constexpr size_t kMostOptions = 10;

// A row by column name; a list is kept as JSON text.
using Row = std::map<std::string, std::string, std::less<>>;

std::string Field(const Row& row, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const auto at = row.find(name); at != row.end() && !at->second.empty()) return at->second;
  }
  return {};
}

std::string_view MediaTypeOfBase64(std::string_view text) {
  if (text.starts_with("/9j/")) return "image/jpeg";
  if (text.starts_with("iVBORw0K")) return "image/png";
  if (text.starts_with("UklGR")) return "image/webp";
  if (text.starts_with("R0lGOD")) return "image/gif";
  return {};
}

absl::StatusOr<std::string> Picture(const std::string& text, const std::filesystem::path& folder) {
  if (text.starts_with("data:")) return text;
  if (const std::string_view type = MediaTypeOfBase64(text); !type.empty()) {
    return fmt::format("data:{};base64,{}", type, text);
  }
  if (text.size() > 4096) return InvalidArgument("a picture that is no base64 of JPEG, PNG, WebP or GIF");
  return PictureDataUrl((folder / text).string());
}

std::vector<std::string> ListOrOne(const std::string& text) {
  if (text.empty()) return {};
  if (auto list = ParseList(text)) return *std::move(list);
  return {text};
}

std::vector<std::string> Options(const Row& row) {
  if (const std::string list = Field(row, {"options", "choices"}); !list.empty()) return ListOrOne(list);
  std::vector<std::string> out;
  for (char letter = 'A'; out.size() < kMostOptions; ++letter) {
    const std::string option = Field(row, {std::string_view(&letter, 1)});
    if (option.empty() || option == "nan") break;
    out.push_back(option);
  }
  return out;
}

absl::StatusOr<Question> FromRow(const Row& row, const Row* with_picture,
                                 const std::filesystem::path& folder) {
  Question q;
  q.id = Field(row, {"index", "id", "question_id", "questionId", "pid"});
  q.text = Field(row, {"question", "query"});
  q.hint = Field(row, {"hint"});
  q.options = Options(row);
  q.category = Field(row, {"category", "task", "subfield", "split"});
  q.dataset = Field(row, {"dataset", "dataset_name"});
  q.question_type = Field(row, {"question_type"});
  q.answer_type = Field(row, {"answer_type"});
  if (const auto digits = PythonFloat(Field(row, {"precision"})); digits && *digits >= 0 && *digits < 16) {
    q.precision = static_cast<int>(*digits);
  }
  const std::string answer = Field(row, {"answers", "answer", "label"});
  // MathVista's answers of type list are one answer: the list.
  if (q.answer_type == "list") {
    q.answers = {answer};
  } else {
    q.answers = ListOrOne(answer);
  }
  if (q.text.empty()) return InvalidArgument("no question");
  if (q.answers.empty()) return InvalidArgument("no answer");
  const Row& source = with_picture != nullptr ? *with_picture : row;
  for (const std::string& picture : ListOrOne(Field(source, {"images", "image", "image_path"}))) {
    ASSIGN_OR_RETURN(std::string url, Picture(picture, folder));
    q.pictures.push_back(std::move(url));
  }
  return q;
}

absl::StatusOr<std::vector<Row>> TsvRows(std::string_view text) {
  ASSIGN_OR_RETURN(std::vector<std::vector<std::string>> table, ParseTsv(text));
  if (table.empty()) return InvalidArgument("no header");
  std::vector<Row> rows;
  for (size_t i = 1; i < table.size(); ++i) {
    if (table[i].size() != table[0].size()) {
      return InvalidArgument("row {}: expected {} columns, found {}", i, table[0].size(), table[i].size());
    }
    Row& row = rows.emplace_back();
    for (size_t c = 0; c < table[0].size(); ++c) row[table[0][c]] = std::move(table[i][c]);
  }
  return rows;
}

absl::StatusOr<std::vector<Row>> JsonlRows(std::string_view text) {
  std::vector<Row> rows;
  for (size_t at = 0, line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view object = text.substr(at, end - at);
    at = end + 1;
    if (Strip(object).empty()) continue;
    const Json json = Json::parse(object, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return InvalidArgument("line {}: expected a JSON object", line);
    Row& row = rows.emplace_back();
    for (const auto& [name, value] : json.items()) {
      if (!value.is_null()) row[name] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }
  return rows;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<std::string>>> ParseTsv(std::string_view text) {
  std::vector<std::vector<std::string>> rows;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  size_t at = 0;
  while (at < text.size()) {
    std::vector<std::string>& row = rows.emplace_back();
    while (true) {
      std::string& field = row.emplace_back();
      if (at < text.size() && text[at] == '"') {
        for (++at;; ++at) {
          const size_t quote = text.find('"', at);
          if (quote == text.npos) return InvalidArgument("row {}: a quote is never closed", rows.size() - 1);
          field += text.substr(at, quote - at);
          at = quote + 1;
          if (at >= text.size() || text[at] != '"') break;
          field += '"';
        }
      }
      const size_t end = std::min(text.find_first_of("\t\n", at), text.size());
      field += text.substr(at, end - at);
      at = end + 1;
      if (end >= text.size() || text[end] == '\n') break;
    }
    if (row.back().ends_with('\r')) row.back().pop_back();
    if (row.size() == 1 && row[0].empty()) rows.pop_back();
  }
  return rows;
}

absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes));
  const bool tsv = path.ends_with(".tsv");
  if (!tsv && !path.ends_with(".jsonl")) {
    return InvalidArgument("{}: expected a name that ends in .tsv or .jsonl", path);
  }
  auto rows = tsv ? TsvRows(text) : JsonlRows(text);
  if (!rows.ok()) return Annotate(rows.status(), path);
  if (rows->empty()) return InvalidArgument("{}: no questions", path);
  std::map<std::string, const Row*> by_index;
  for (const Row& row : *rows) by_index.emplace(Field(row, {"index"}), &row);

  std::vector<Question> out;
  std::set<std::string> ids;
  for (size_t i = 0; i < rows->size(); ++i) {
    const Row& row = (*rows)[i];
    const Row* with_picture = nullptr;
    if (const std::string image = Field(row, {"image"});
        !image.empty() && image.size() <= kLongestReference) {
      if (const auto at = by_index.find(image); at != by_index.end()) with_picture = at->second;
    }
    auto question = FromRow(row, with_picture, std::filesystem::path(path).parent_path());
    if (!question.ok()) return Annotate(question.status(), fmt::format("{}: row {}", path, i + 1));
    if (question->id.empty()) question->id = fmt::format("{}", i);
    if (!ids.insert(question->id).second) {
      return InvalidArgument("{}: row {}: the id {} has been used", path, i + 1, question->id);
    }
    out.push_back(*std::move(question));
  }
  return out;
}

}  // namespace fulger
