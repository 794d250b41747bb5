#include "coordinator/eval/results.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/file.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;
constexpr double kNormal95 = 1.959963984540054;

std::string ToLine(const Result& r) {
  const Json json = {{"id", r.id},
                     {"score", r.score},
                     {"parsed", r.parsed},
                     {"guessed", r.guessed},
                     {"category", r.category},
                     {"response", r.response},
                     {"extraction", r.extraction},
                     {"finish_reason", r.finish_reason},
                     {"seconds", r.seconds}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<Result> FromLine(std::string_view line) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return DataLoss("expected a JSON object, found {}", line.substr(0, 80));
  const auto text = [&](const char* name) {
    return json.contains(name) && json[name].is_string() ? json[name].get<std::string>() : std::string();
  };
  const auto number = [&](const char* name) {
    return json.contains(name) && json[name].is_number() ? json[name].get<double>() : 0.0;
  };
  Result r = {.id = text("id"),
              .category = text("category"),
              .response = text("response"),
              .extraction = text("extraction"),
              .parsed = text("parsed"),
              .finish_reason = text("finish_reason"),
              .score = number("score"),
              .guessed = json.contains("guessed") && json["guessed"] == true,
              .seconds = number("seconds")};
  if (r.id.empty()) return DataLoss("a result without an id: {}", line.substr(0, 80));
  return r;
}

}  // namespace

absl::StatusOr<ResultsFile> ResultsFile::Open(const std::string& path, std::string_view description,
                                              std::vector<Result>* earlier) {
  ResultsFile file(path);
  bool begun = false;
  if (FileExists(path)) {
    ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxFileBytes));
    if (const size_t whole = text.rfind('\n') + 1; whole != text.size()) {  // npos + 1 is 0
      text.resize(whole);
      std::error_code error;
      std::filesystem::resize_file(path, whole, error);
      if (error) return Unavailable("{}: cannot cut the unfinished last line: {}", path, error.message());
    }
    for (size_t at = 0, line = 1; at < text.size(); ++line) {
      const size_t end = text.find('\n', at);
      const std::string_view content = std::string_view(text).substr(at, end - at);
      at = end + 1;
      if (!begun) {
        begun = true;
        if (content != description) {
          return FailedPrecondition("{} is of another run: expected {}, found {}; choose another --out", path,
                                    description, content);
        }
        continue;
      }
      auto result = FromLine(content);
      if (!result.ok()) return Annotate(result.status(), fmt::format("{}: line {}", path, line));
      earlier->push_back(*std::move(result));
    }
  }
  file.out_.open(path, std::ios::binary | std::ios::app);
  if (!begun) file.out_ << description << "\n" << std::flush;
  if (!file.out_) return Unavailable("{}: cannot write", path);
  return file;
}

absl::Status ResultsFile::Append(const Result& result) {
  out_ << ToLine(result) << std::flush;
  if (!out_) return Unavailable("{}: cannot write", path_);
  return absl::OkStatus();
}

Estimate Mean(const std::vector<double>& scores) {
  Estimate out;
  out.count = scores.size();
  if (scores.empty()) return out;
  const auto n = static_cast<double>(scores.size());
  for (const double score : scores) out.mean += score;
  out.mean /= n;
  const bool binary = std::all_of(scores.begin(), scores.end(), [](double s) { return s == 0 || s == 1; });
  if (binary) {
    const double z2 = kNormal95 * kNormal95;
    const double centre = (out.mean + z2 / (2 * n)) / (1 + z2 / n);
    const double half =
        kNormal95 / (1 + z2 / n) * std::sqrt(out.mean * (1 - out.mean) / n + z2 / (4 * n * n));
    out.low = centre - half;
    out.high = centre + half;
  } else {
    double variance = 0;
    for (const double score : scores)
      variance += (score - out.mean) * (score - out.mean) / std::max(n - 1, 1.0);
    const double half = kNormal95 * std::sqrt(variance / n);
    out.low = out.mean - half;
    out.high = out.mean + half;
  }
  out.low = std::clamp(out.low, 0.0, 1.0);
  out.high = std::clamp(out.high, 0.0, 1.0);
  return out;
}

}  // namespace fulger
