#include <algorithm>
#include <utility>

#include "base/run_list.h"
#include "coordinator/doctor/report.h"

namespace fulger {
namespace {

constexpr size_t kFewNodes = 8;  // with a table each
constexpr size_t kFewEnds = 12;  // of a matrix that is printed with its numbers
constexpr size_t kWorstWays = 5;

class Text {
 public:
  explicit Text(bool colour) : colour_(colour) {}
  void Line(const std::string& line) { text_ += line + "\n"; }
  // Padded to four, then coloured: escapes have no width.
  std::string Verdict(Level level) const {
    const std::string name = fmt::format("{:<4}", Name(level));
    if (!colour_) return name;
    constexpr std::string_view kColours[] = {"32", "33;1", "31;1"};
    return fmt::format("\033[{}m{}\033[0m", kColours[static_cast<size_t>(level)], name);
  }
  std::string Take() { return std::move(text_); }

 private:
  bool colour_;
  std::string text_;
};

void Findings(Text* out, const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    out->Line(fmt::format("  {}  {:<11}  {}", out->Verdict(finding.level), finding.check, finding.found));
    if (finding.level == Level::kOk) continue;
    if (!finding.cause.empty()) out->Line(fmt::format("                     cause: {}", finding.cause));
    if (!finding.cure.empty()) out->Line(fmt::format("                     cure:  {}", finding.cure));
  }
}

void Matrix(Text* out, const Ways& ways) {
  size_t width = 9;
  for (const std::string& end : ways.ends) width = std::max(width, end.size());
  for (const bool rates : {true, false}) {
    out->Line(rates ? "  MB/s, from row to column"
                    : "  latency, us (half of the median round trip of 16 bytes)");
    std::string head = fmt::format("  {:<{}}", "", width);
    for (const std::string& end : ways.ends) head += fmt::format("  {:>{}}", end, width);
    out->Line(head);
    for (size_t from = 0; from < ways.ends.size(); ++from) {
      std::string line = fmt::format("  {:<{}}", ways.ends[from], width);
      for (size_t to = 0; to < ways.ends.size(); ++to) {
        const Ways::Way* way = ways.Find(from, to);
        std::string cell = from == to ? "-" : "?";
        if (way != nullptr) {
          cell = rates ? fmt::format("{:.{}f}{}", way->bytes_per_second / 1e6,
                                     way->bytes_per_second < 1e8 ? 1 : 0, way->outlier ? "!" : "")
                       : fmt::format("{:.1f}", 1e6 * way->latency);
        }
        line += fmt::format("  {:>{}}", cell, width);
      }
      out->Line(line);
    }
  }
}

void PrintWays(Text* out, const ExamReport& report, const Ways& ways, std::string_view title) {
  if (ways.ways.empty()) return;
  out->Line(fmt::format("\n{}: {} ways of {}, median {}, {}", title, ways.ways.size(),
                        ways.ends.size() * (ways.ends.size() - 1), RateText(ways.median_rate),
                        LatencyText(ways.median_latency)));
  if (ways.ends.size() <= kFewEnds && ways.ways.size() > 0 &&
      &ways == (report.between.ways.empty() ? &report.within : &report.between)) {
    Matrix(out, ways);
  }
  std::vector<const Ways::Way*> sorted;
  for (const Ways::Way& way : ways.ways) sorted.push_back(&way);
  std::sort(sorted.begin(), sorted.end(),
            [](const auto* a, const auto* b) { return a->bytes_per_second < b->bytes_per_second; });
  const auto outliers =
      std::count_if(sorted.begin(), sorted.end(), [](const auto* way) { return way->outlier; });
  if (ways.reference > 0) {
    out->Line(fmt::format("  {} below half of what a sound one reaches ({}){}",
                          outliers == 1 ? "1 way is" : fmt::format("{} ways are", outliers),
                          RateText(ways.reference), outliers > 0 ? ":" : ""));
  }
  const auto shown = std::min(
      kWorstWays, std::max<size_t>(static_cast<size_t>(outliers), ways.ends.size() > kFewEnds ? 1 : 0));
  for (size_t i = 0; i < shown; ++i) {
    const Ways::Way& way = *sorted[i];
    out->Line(fmt::format("    {} -> {}: {}, {}", ways.ends[way.from], ways.ends[way.to],
                          RateText(way.bytes_per_second), LatencyText(way.latency)));
  }
  if (shown < static_cast<size_t>(outliers))
    out->Line(fmt::format("    and {} more: --json, --html", static_cast<size_t>(outliers) - shown));
}

// What to mend, worst first: where a terminal's reader looks.
void Verdict(Text* out, const ExamReport& report) {
  struct Entry {
    Level level;
    std::string where;
    const Finding* finding;
  };
  std::vector<Entry> entries;
  size_t nodes = 0;
  for (const Finding& finding : report.general) entries.push_back({finding.level, "", &finding});
  for (const NodeReport& node : report.nodes) {
    nodes += node.level() != Level::kOk ? 1 : 0;
    for (const Finding& finding : node.findings)
      entries.push_back({finding.level, node.name + " ", &finding});
  }
  std::erase_if(entries, [](const Entry& entry) { return entry.level == Level::kOk; });
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.level > b.level; });
  const auto fails =
      std::count_if(entries.begin(), entries.end(), [](const Entry& e) { return e.level == Level::kFail; });
  out->Line(fmt::format(
      "\nverdict  {}  {} FAIL, {} WARN; {} of {} node{} well; {} of {} rounds measured, {:.0f} s in all",
      out->Verdict(report.level()), fails, entries.size() - static_cast<size_t>(fails),
      report.nodes.size() - nodes, report.nodes.size(), report.nodes.size() == 1 ? "" : "s",
      report.rounds_done, report.rounds, report.seconds));
  for (const Entry& entry : entries) {
    out->Line(fmt::format("  {}  {}{}: {}", out->Verdict(entry.level), entry.where, entry.finding->check,
                          entry.finding->found));
    if (!entry.finding->cure.empty()) out->Line(fmt::format("        cure: {}", entry.finding->cure));
  }
}

}  // namespace

std::string RateText(double bytes_per_second) {
  return bytes_per_second >= 1e9 ? fmt::format("{:.2f} GB/s", bytes_per_second / 1e9)
                                 : fmt::format("{:.1f} MB/s", bytes_per_second / 1e6);
}

std::string LatencyText(double seconds) {
  return seconds >= 1e-2 ? fmt::format("{:.1f} ms", 1e3 * seconds) : fmt::format("{:.1f} us", 1e6 * seconds);
}

std::string ReportText(const ExamReport& report, bool all, bool colour) {
  Text out(colour);
  out.Line(fmt::format("fulger doctor {}: {} node{}, {} rank{}, transport {}", report.version,
                       report.nodes.size(), report.nodes.size() == 1 ? "" : "s", report.expected_ranks,
                       report.expected_ranks == 1 ? "" : "s",
                       report.transport.empty() ? "none" : report.transport));
  out.Line("\nlaunch and coordinator");
  Findings(&out, report.general);
  const bool few = all || report.nodes.size() <= kFewNodes;
  for (const NodeReport& node : report.nodes) {
    const std::string head = fmt::format("node {}  {}  rank{} {}", node.name, out.Verdict(node.level()),
                                         node.ranks.size() == 1 ? "" : "s", RunList(node.ranks));
    if (few || node.level() != Level::kOk) {
      out.Line("\n" + head);
      Findings(&out, node.findings);
    } else {
      out.Line(head);
    }
  }
  PrintWays(&out, report, report.between,
            report.one_pair_at_a_time ? "between nodes, one pair at a time"
                                      : "between nodes, pairs at the same time");
  PrintWays(&out, report, report.within, "within nodes");
  Verdict(&out, report);
  return out.Take();
}

}  // namespace fulger
