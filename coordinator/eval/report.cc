#include "coordinator/eval/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/markup.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

struct Summary {
  Estimate all;
  std::map<std::string, Estimate> categories;
  size_t guessed = 0, cut_off = 0;
};

Summary Summarize(const std::vector<Result>& results) {
  Summary out;
  std::vector<double> all;
  std::map<std::string, std::vector<double>> by_category;
  for (const Result& r : results) {
    all.push_back(r.score);
    if (!r.category.empty()) by_category[r.category].push_back(r.score);
    out.guessed += r.guessed ? 1 : 0;
    out.cut_off += r.finish_reason == "length" ? 1 : 0;
  }
  out.all = Mean(all);
  for (const auto& [name, scores] : by_category) out.categories[name] = Mean(scores);
  return out;
}

Json ToJson(const Estimate& e) {
  return {{"score", e.mean}, {"low", e.low}, {"high", e.high}, {"count", e.count}};
}

constexpr std::string_view kHead = R"(<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><title>fulger eval</title><style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #8884}
article{border-top:2px solid #8886;padding:1rem 0}img{max-width:100%;max-height:24rem;image-rendering:auto}
pre{white-space:pre-wrap;background:#8882;padding:.6rem;border-radius:.4rem}.title{overflow-wrap:anywhere;color:#888}
</style>)";

std::string Row(std::string_view name, const Estimate& e) {
  return fmt::format("<tr><th>{}</th><td>{:.1f} %</td><td>{:.1f} &ndash; {:.1f}</td><td>{}</td></tr>\n",
                     EscapeMarkup(name), 100 * e.mean, 100 * e.low, 100 * e.high, e.count);
}

std::string Article(const Question& q, const Result& r) {
  std::string out = fmt::format("<article><h3>{} &middot; score {:.2f}</h3>\n", EscapeMarkup(q.id), r.score);
  for (size_t i = 0; i < q.pictures.size(); ++i) {
    out += fmt::format("<img alt=\"picture {}\" src=\"{}\">\n", i + 1, EscapeMarkup(q.pictures[i]));
  }
  out += fmt::format("<p>{}</p>\n", EscapeMarkup(q.text));
  if (!q.options.empty()) {
    out += "<ol type=\"A\">";
    for (const std::string& option : q.options) out += fmt::format("<li>{}</li>", EscapeMarkup(option));
    out += "</ol>\n";
  }
  out += fmt::format("<p><b>right</b>: {}<br><b>read</b>: {}{}</p>\n<pre>{}</pre></article>\n",
                     EscapeMarkup(fmt::format("{}", fmt::join(q.answers, " | "))), EscapeMarkup(r.parsed),
                     r.guessed ? " (drawn at random: the response names no option)" : "",
                     EscapeMarkup(r.response));
  return out;
}

}  // namespace

std::string SummaryText(const std::vector<Result>& results, size_t questions) {
  const Summary summary = Summarize(results);
  size_t width = 7;
  for (const auto& [name, e] : summary.categories) width = std::max(width, name.size());
  std::string out =
      fmt::format("{:<{}}  {:>6}  {:>15}  {:>6}\n", "", width, "score", "95 % interval", "asked");
  const auto line = [&](std::string_view name, const Estimate& e) {
    out += fmt::format("{:<{}}  {:>5.1f}%  {:>5.1f}% - {:>5.1f}%  {:>6}\n", name, width, 100 * e.mean,
                       100 * e.low, 100 * e.high, e.count);
  };
  for (const auto& [name, e] : summary.categories) line(name, e);
  line("overall", summary.all);
  if (results.size() != questions)
    out += fmt::format("{} of {} questions answered\n", results.size(), questions);
  if (summary.guessed > 0)
    out += fmt::format("{} responses named no option: drawn at random\n", summary.guessed);
  if (summary.cut_off > 0)
    out += fmt::format("{} responses were cut off at their token limit\n", summary.cut_off);
  return out;
}

std::string SummaryJson(std::string_view title, const std::vector<Result>& results, size_t questions) {
  const Summary summary = Summarize(results);
  Json json = ToJson(summary.all);
  json["questions"] = questions;
  json["guessed"] = summary.guessed;
  json["cut_off"] = summary.cut_off;
  json["run"] = Json::parse(title, nullptr, /*allow_exceptions=*/false);
  json["categories"] = Json::object();
  for (const auto& [name, e] : summary.categories) json["categories"][name] = ToJson(e);
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string ReportHtml(std::string_view title, const std::vector<Question>& questions,
                       const std::vector<Result>& results, size_t most) {
  const Summary summary = Summarize(results);
  std::string out(kHead);
  out += fmt::format("<h1>fulger eval</h1><p class=\"title\">{}</p>\n<table>", EscapeMarkup(title));
  out += "<tr><th></th><th>score</th><th>95 % interval</th><th>asked</th></tr>\n";
  for (const auto& [name, e] : summary.categories) out += Row(name, e);
  out += Row("overall", summary.all) + "</table>\n";
  std::map<std::string, const Question*> by_id;
  for (const Question& q : questions) by_id[q.id] = &q;
  size_t lost = 0;
  std::string articles;
  for (const Result& r : results) {
    const auto q = by_id.find(r.id);
    if (r.score >= 1 || q == by_id.end()) continue;
    if (++lost <= most) articles += Article(*q->second, r);
  }
  out += fmt::format("<h2>{} of {} lost points</h2>\n", lost, results.size());
  if (lost > most) out += fmt::format("<p>The first {} are shown; results.jsonl has all.</p>\n", most);
  return out + articles + "</html>\n";
}

}  // namespace fulger
