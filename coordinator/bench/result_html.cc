#include <algorithm>
#include <array>
#include <cmath>

#include "base/markup.h"
#include "coordinator/bench/result.h"

namespace fulger::bench {
namespace {

using nlohmann::json;

constexpr int kWidth = 460, kHeight = 240, kLeft = 54, kBottom = 34, kTop = 26, kRight = 12;
constexpr size_t kPoints = 300;  // of a curve: more than pixels show nothing
constexpr std::array<std::string_view, 4> kColours = {"#4477aa", "#ee6677", "#228833", "#aa3377"};

using Curve = std::vector<std::pair<double, double>>;

struct Plot {
  std::string_view title, x_label, y_label;
  Curve curve;
  std::string_view colour;
  bool steps = false;  // a value holds until the next point
};

// Ticks of 1, 2 or 5 times a power of ten.
double TickStep(double range) {
  const double raw = range / 4, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

std::string Svg(const Plot& plot) {
  double x_max = 1e-9, y_max = 1e-9;
  for (const auto& [x, y] : plot.curve) {
    x_max = std::max(x_max, x);
    y_max = std::max(y_max, y);
  }
  const double x_scale = (kWidth - kLeft - kRight) / x_max,
               y_scale = (kHeight - kTop - kBottom) / (y_max * 1.05);
  const auto x_of = [&](double x) { return kLeft + x * x_scale; };
  const auto y_of = [&](double y) { return kHeight - kBottom - y * y_scale; };
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\" aria-label=\"{}\">\n"
      "<text x=\"{}\" y=\"16\" class=\"title\">{}</text>\n",
      kWidth, kHeight, kWidth, kHeight, plot.title, kLeft, plot.title);
  const double x_step = TickStep(x_max), y_step = TickStep(y_max);
  for (double x = 0; x <= x_max * 1.0001; x += x_step) {
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\" class=\"grid\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4:g}</text>\n",
        x_of(x), kTop, kHeight - kBottom, kHeight - kBottom + 13, x);
  }
  for (double y = 0; y <= y_max * 1.05; y += y_step) {
    svg += fmt::format(
        "<line x1=\"{0}\" y1=\"{1:.1f}\" x2=\"{2}\" y2=\"{1:.1f}\" class=\"grid\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:g}</text>\n",
        kLeft, y_of(y), kWidth - kRight, kLeft - 5, y_of(y) + 4, y);
  }
  svg += fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" points=\"", plot.colour);
  double last = 0;
  for (size_t i = 0; i < plot.curve.size(); ++i) {
    const auto& [x, y] = plot.curve[i];
    if (plot.steps && i > 0) svg += fmt::format("{:.1f},{:.1f} ", x_of(x), y_of(last));
    svg += fmt::format("{:.1f},{:.1f} ", x_of(x), y_of(y));
    last = y;
  }
  svg += fmt::format(
      "\"/>\n<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>"
      "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text></svg>\n",
      kWidth - kRight, kHeight - 5, plot.x_label, kWidth - kRight, 16, plot.y_label);
  return svg;
}

// Share of samples at or below a time.
Curve Cumulative(const Samples& samples) {
  std::vector<double> all;
  for (const auto& one : samples) all.insert(all.end(), one.begin(), one.end());
  std::sort(all.begin(), all.end());
  Curve curve;
  for (size_t i = 0; !all.empty() && i <= kPoints; ++i) {
    const double share = static_cast<double>(i) / kPoints;
    curve.emplace_back(Percentile(all, share * 100), share * 100);
  }
  return curve;
}

Curve UnderWay(const json& requests) {
  std::vector<std::pair<double, int>> changes;
  for (const json& r : requests) {
    changes.emplace_back(r["sent"].get<double>(), 1);
    changes.emplace_back(r["end"].get<double>(), -1);
  }
  std::sort(changes.begin(), changes.end());
  Curve curve = {{0, 0}};
  int now = 0;
  for (const auto& [at, change] : changes) curve.emplace_back(at, now += change);
  return curve;
}

Curve TokensPerSecond(const json& result) {
  constexpr size_t kBins = 60;
  const double width = std::max(result["seconds"].get<double>(), 1e-9) / kBins;
  std::vector<double> bins(kBins);
  for (const json& r : result["requests"]) {
    for (const json& at : r["tokens"]) {
      bins[std::min(kBins - 1, static_cast<size_t>(at.get<double>() / width))] += 1;
    }
  }
  Curve curve;
  for (size_t i = 0; i < kBins; ++i) curve.emplace_back(static_cast<double>(i) * width, bins[i] / width);
  curve.emplace_back(static_cast<double>(kBins) * width, curve.back().second);
  return curve;
}

}  // namespace

std::string ResultHtml(const json& result) {
  const auto samples = SamplesFromJson(result);
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>fulger bench "
      "serve</title>\n<style>\n"
      "body{font:14px system-ui,sans-serif;margin:2em auto;max-width:960px;padding:0 "
      "1em;color:#222;background:#fff}\n"
      "svg{max-width:100%;height:auto;font:11px system-ui,sans-serif}.title{font-weight:600;font-size:13px}"
      ".grid{stroke:#ddd}pre{overflow-x:auto;background:#f5f5f5;padding:.8em}.bad{background:#fdd}\n"
      "</style></head><body>\n<h1>fulger bench serve</h1>\n";
  const json& setup = result["setup"];
  html += fmt::format(
      "<p>{} at {}: arrivals {}, mix {}, seed {}</p>\n", EscapeMarkup(setup["model"].get<std::string>()),
      EscapeMarkup(setup["url"].get<std::string>()), EscapeMarkup(setup["arrivals"].get<std::string>()),
      EscapeMarkup(setup["mix"].get<std::string>()), setup["seed"].get<uint64_t>());
  for (const json& line : result["books"]["wrong"]) {
    html += fmt::format("<p class=\"bad\">The books do not balance: {}</p>\n",
                        EscapeMarkup(line.get<std::string>()));
  }
  html += "<pre>" + EscapeMarkup(ResultText(result)) + "</pre>\n";
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kShown = {
      std::pair{"ttft", "time to first token"},
      {"tpot", "time per output token"},
      {"itl", "inter-token latency"},
      {"e2e", "end to end"}};
  for (size_t i = 0; samples.ok() && i < kShown.size(); ++i) {
    html += Svg({.title = kShown[i].second,
                 .x_label = "ms",
                 .y_label = "% at or below",
                 .curve = Cumulative(samples->at(std::string(kShown[i].first))),
                 .colour = kColours[i]});
  }
  html += Svg({.title = "requests under way",
               .x_label = "s",
               .y_label = "requests",
               .curve = UnderWay(result["requests"]),
               .colour = kColours[0],
               .steps = true});
  html += Svg({.title = "output",
               .x_label = "s",
               .y_label = "tokens/s",
               .curve = TokensPerSecond(result),
               .colour = kColours[2],
               .steps = true});
  html += "<h2>Set-up</h2>\n<pre>" + EscapeMarkup(json(result["command"]).dump()) + "\n" +
          EscapeMarkup(setup.dump(2)) + "</pre>\n</body></html>\n";
  return html;
}

}  // namespace fulger::bench
