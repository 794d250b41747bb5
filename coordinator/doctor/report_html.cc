#include <algorithm>
#include <array>
#include <cmath>

#include "base/markup.h"
#include "base/run_list.h"
#include "coordinator/doctor/report.h"

namespace fulger {
namespace {

constexpr int kMostWidth = 720, kLargestCell = 48, kLeft = 110, kTop = 110;
constexpr size_t kNumbered = 16;  // ends: with more, cells are too small for numbers
constexpr size_t kNamed = 64;     // and names

struct Colour {
  double r, g, b;
};
// From dark violet (bad) over teal to yellow (good): even in lightness, and told apart by colour-blind eyes.
constexpr std::array<Colour, 5> kScale = {
    Colour{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};

// `share` 0: bad, 1: good.
std::string ColourOf(double share) {
  const double at = std::clamp(share, 0.0, 1.0) * (kScale.size() - 1);
  const auto i = std::min(static_cast<size_t>(at), kScale.size() - 2);
  const double part = at - static_cast<double>(i);
  const auto mix = [part](double a, double b) { return static_cast<int>(std::lround(a + part * (b - a))); };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(kScale[i].r, kScale[i + 1].r),
                     mix(kScale[i].g, kScale[i + 1].g), mix(kScale[i].b, kScale[i + 1].b));
}

// How good a way is: from a tenth of the best to the best, by the logarithm.
double Share(double value, double best) { return value <= 0 || best <= 0 ? 0 : 1 + std::log10(value / best); }

std::string Cell(const Ways& ways, const Ways::Way& way, bool rates, double best, int x, int y, int size) {
  const double share = rates ? Share(way.bytes_per_second, best) : Share(best, way.latency);
  std::string svg = fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"{}><title>{} to {}: {}, "
      "{}</title></rect>\n",
      x, y, size, size, ColourOf(share),
      (rates ? way.outlier : way.late) ? " stroke=\"#d00\" stroke-width=\"2\"" : "",
      EscapeMarkup(ways.ends[way.from]), EscapeMarkup(ways.ends[way.to]), RateText(way.bytes_per_second),
      LatencyText(way.latency));
  if (ways.ends.size() > kNumbered) return svg;
  const double value = rates ? way.bytes_per_second / 1e6 : 1e6 * way.latency;
  return svg + fmt::format(
                   "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{}\" "
                   "pointer-events=\"none\">{:.{}f}</text>\n",
                   x + size / 2, y + size / 2 + 4, share > 0.6 ? "#000" : "#fff", value, value < 100 ? 1 : 0);
}

std::string HeatMap(const Ways& ways, bool rates, const std::string& title) {
  const auto n = static_cast<int>(ways.ends.size());
  const int size = std::clamp((kMostWidth - kLeft) / n, 2, kLargestCell);
  const int width = std::max(kLeft + n * size + 10, 360), height = kTop + n * size + 10;
  double best = 0;
  for (const Ways::Way& way : ways.ways) {
    if (rates) {
      best = std::max(best, way.bytes_per_second);
    } else if (way.latency > 0) {
      best = best == 0 ? way.latency : std::min(best, way.latency);
    }
  }
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\" aria-label=\"{2}\">\n"
      "<text x=\"4\" y=\"16\" class=\"title\">{2}</text><text x=\"4\" y=\"32\">row: from, column: to; yellow "
      "is best, violet a tenth of it or "
      "worse</text>\n",
      width, height, EscapeMarkup(title));
  for (int i = 0; n <= static_cast<int>(kNamed) && i < n; ++i) {
    const std::string name = EscapeMarkup(ways.ends[static_cast<size_t>(i)]);
    const int at = i * size + size / 2 + 4;
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 5, kTop + at, name);
    svg += fmt::format("<text transform=\"translate({},{}) rotate(-60)\">{}</text>\n", kLeft + at, kTop - 5,
                       name);
  }
  for (const Ways::Way& way : ways.ways) {
    svg += Cell(ways, way, rates, best, kLeft + static_cast<int>(way.to) * size,
                kTop + static_cast<int>(way.from) * size, size > 6 ? size - 2 : size);
  }
  return svg + "</svg>\n";
}

std::string Counted(size_t n, std::string_view what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string Table(const std::vector<Finding>& findings) {
  std::string html = "<table><tr><th>verdict</th><th>check</th><th>found</th><th>cause and cure</th></tr>\n";
  for (const Finding& finding : findings) {
    html += fmt::format("<tr class=\"{0}\"><td>{0}</td><td>{1}</td><td>{2}</td><td>{3}{4}</td></tr>\n",
                        Name(finding.level), EscapeMarkup(finding.check), EscapeMarkup(finding.found),
                        EscapeMarkup(finding.cause),
                        finding.cure.empty() ? "" : "<br><b>" + EscapeMarkup(finding.cure) + "</b>");
  }
  return html + "</table>\n";
}

}  // namespace

std::string ReportHtml(const ExamReport& report) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>fulger doctor: "
      "{}</title>\n<style>\n"
      "body{{font:14px system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 "
      "1em;color:#222;background:#fff}}\n"
      "svg{{max-width:100%;height:auto;font:11px "
      "system-ui,sans-serif}}.title{{font-weight:600;font-size:13px}}\n"
      "table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;vertical-align:top;padding:.2em "
      ".6em;border-bottom:1px solid #ddd}}\n"
      "tr.WARN td:first-child{{background:#fd8}}tr.FAIL "
      "td:first-child{{background:#f99}}summary{{font-weight:600;margin:.6em 0}}\n"
      ".WARN>summary{{color:#850}}.FAIL>summary{{color:#b00}}\n"
      "</style></head><body>\n<h1>fulger doctor: {}</h1>\n<p>{}, {}, transport {}; {} of {} "
      "rounds measured, {}; {:.0f} s</p>\n",
      Name(report.level()), Name(report.level()), Counted(report.nodes.size(), "node"),
      Counted(report.expected_ranks, "rank"), EscapeMarkup(report.transport), report.rounds_done,
      report.rounds, report.one_pair_at_a_time ? "one pair at a time" : "pairs at the same time",
      report.seconds);
  for (const auto& [ways, where] :
       {std::pair(&report.between, "between nodes"), std::pair(&report.within, "within nodes")}) {
    const bool drawn =
        ways == &report.between || ways->ends.size() <= kNamed;  // of many nodes a few ways each: no map
    if (ways->ways.empty() || !drawn) continue;
    html += HeatMap(*ways, /*rates=*/true, fmt::format("bandwidth {}, MB/s", where));
    html += HeatMap(*ways, /*rates=*/false, fmt::format("latency {}, us", where));
  }
  html += "<h2>Launch and coordinator</h2>\n" + Table(report.general) + "<h2>Nodes</h2>\n";
  for (const NodeReport& node : report.nodes) {
    html += fmt::format("<details class=\"{0}\"{1}><summary>{2}: {0} (ranks {3})</summary>\n{4}</details>\n",
                        Name(node.level()), node.level() == Level::kOk ? "" : " open",
                        EscapeMarkup(node.name), RunList(node.ranks), Table(node.findings));
  }
  return html + "</body></html>\n";
}

}  // namespace fulger
