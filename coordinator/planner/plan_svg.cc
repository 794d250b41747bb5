#include <algorithm>
#include <array>

#include "base/markup.h"
#include "coordinator/planner/plan_report.h"

namespace fulger {
namespace {

constexpr int kBoxWidth = 172, kBoxHeight = 96, kGap = 10, kMargin = 20, kHeadHeight = 84, kNodeHeight = 24;
constexpr double kGiB = 1 << 30;

struct Part {
  std::string_view name, colour;
  int64_t bytes;
};

std::vector<Part> PartsOf(const Cluster& cluster, const RankMemory& m) {
  const auto of = [&](Component c) { return m.weights[static_cast<size_t>(c)]; };
  const int64_t attention = of(Component::kLightningAttention) + of(Component::kSoftmaxAttention);
  const int64_t experts = of(Component::kExperts);
  return {{"attention", "#4477aa", attention},
          {"experts", "#66ccee", experts},
          {"other weights", "#228833", m.weight_total() - attention - experts},
          {"KV", "#ccbb44", m.kv},
          {"states", "#ee6677", m.slots},
          {"arena", "#aa3377", m.arena},
          {"reserve", "#bbbbbb", cluster.reserve_bytes}};
}

std::string Text(int x, int y, int size, const std::string& text, std::string_view more = "") {
  return fmt::format("<text x=\"{}\" y=\"{}\" font-size=\"{}\"{}>{}</text>\n", x, y, size, more, text);
}

std::string Box(const PlanReport& r, const RankPlan& plan, const RankMemory& memory, int64_t limit, int x,
                int y) {
  std::string svg = fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"#fff\" stroke=\"#888\"/>\n", x, y,
      kBoxWidth, kBoxHeight);
  const int left = x + 8;
  if (plan.vision_only) {
    svg += Text(left, y + 18, 12, fmt::format("rank {}", plan.rank), " font-weight=\"bold\"");
    svg += Text(left, y + 34, 11, "vision tower");
  } else {
    svg += Text(left, y + 18, 12, fmt::format("rank {}: stage {}", plan.rank, plan.stage),
                " font-weight=\"bold\"");
    svg += Text(left, y + 34, 11,
                fmt::format("layers {}..{}, heads {}..{}", plan.layers.begin, plan.layers.end - 1,
                            plan.query_heads.begin, plan.query_heads.end - 1));
    svg += Text(left, y + 49, 11,
                fmt::format("experts {}..{}{}", plan.experts.begin, plan.experts.end - 1,
                            plan.holds_vision ? ", vision" : ""));
  }
  svg += Text(left, y + 64, 11,
              fmt::format("{:.2f} of {:.1f} GiB", static_cast<double>(memory.total()) / kGiB,
                          static_cast<double>(limit + r.cluster.reserve_bytes) / kGiB));
  const double scale = (kBoxWidth - 16) / static_cast<double>(limit + r.cluster.reserve_bytes);
  double at = left;
  for (const Part& part : PartsOf(r.cluster, memory)) {
    const double width = static_cast<double>(part.bytes) * scale;
    svg += fmt::format(
        "<rect x=\"{:.2f}\" y=\"{}\" width=\"{:.2f}\" height=\"14\" fill=\"{}\"><title>{} {} "
        "bytes</title></rect>\n",
        at, y + 73, width, part.colour, part.name, part.bytes);
    at += width;
  }
  svg += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"14\" fill=\"none\" stroke=\"#444\" "
      "stroke-width=\"0.5\"/>\n",
      left, y + 73, kBoxWidth - 16);
  return svg;
}

}  // namespace

std::string PlanSvg(const PlanReport& r) {
  const Candidate& c = r.found.fitting[0];
  const std::vector<RankMemory> memory = MemoryOfRanks(r.model, c);
  const int columns = std::min(std::min(r.cluster.ranks_per_node, c.layout().ranks()), 8);
  const int per_node = r.cluster.ranks_per_node;
  int y = kHeadHeight;
  std::string boxes;
  for (int first = 0; first < c.layout().ranks(); first += per_node) {
    const int last = std::min(first + per_node, c.layout().ranks());
    boxes += Text(kMargin, y + 16, 13, fmt::format("node {}", first / per_node), " font-weight=\"bold\"");
    y += kNodeHeight;
    for (int rank = first; rank < last; ++rank) {
      const int column = (rank - first) % columns, row = (rank - first) / columns;
      boxes += Box(r, c.plan.ranks[static_cast<size_t>(rank)], memory[static_cast<size_t>(rank)], c.limit,
                   kMargin + column * (kBoxWidth + kGap), y + row * (kBoxHeight + kGap));
    }
    y += ((last - first + columns - 1) / columns) * (kBoxHeight + kGap) + kGap;
  }
  const int width = std::max(2 * kMargin + columns * (kBoxWidth + kGap) - kGap, 700);
  std::string head = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"#f7f7f7\"/>\n",
      width, y + kMargin);
  head += Text(kMargin, 28, 16, EscapeMarkup(fmt::format("{}: {}", r.model.name, ToString(c.layout()))),
               " font-weight=\"bold\"");
  head +=
      Text(kMargin, 48, 12,
           fmt::format("{} sequences of {} tokens, {} anchors", c.sequences, r.wishes.context, c.anchors));
  int x = kMargin;
  for (const Part& part : PartsOf(r.cluster, memory[0])) {
    head += fmt::format("<rect x=\"{}\" y=\"58\" width=\"12\" height=\"12\" fill=\"{}\"/>\n", x, part.colour);
    head += Text(x + 16, 68, 11, std::string(part.name));
    x += 26 + 7 * static_cast<int>(part.name.size());
  }
  return head + boxes + "</svg>\n";
}

}  // namespace fulger
