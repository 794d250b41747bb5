// fulger inspect: the audit of a checkpoint folder, from headers alone.
#include <CLI/CLI.hpp>

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/cli/commands.h"
#include "coordinator/cli/memory_budget.h"
#include "model/checkpoint/checkpoint.h"
#include "model/config.h"
#include "model/layout.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<int, 10> kRankCounts = {1, 2, 4, 8, 16, 32, 40, 64, 80, 128};
constexpr size_t kShown = 10;

struct ComponentSum {
  int64_t parameters = 0;
  int64_t bytes = 0;  // as stored
};

// Layouts that differ in ep alone and hold the same bytes are one entry. (With int8 experts they do not: a
// rank with a part of a row holds the row's scale all the same.)
struct LayoutRow {
  Layout layout;
  std::vector<int> ep;
  int64_t largest = 0, smallest = 0;  // bytes of weights per rank, in the checkpoint's main type
};

DType MainType(const Audit& audit) {
  const auto most = std::max_element(audit.bytes.begin(), audit.bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == audit.bytes.end() ? DType::kBF16 : DTypeFromName(most->first).value_or(DType::kBF16);
}

std::map<std::string, ComponentSum> Components(const Checkpoint& checkpoint) {
  std::map<std::string, ComponentSum> sums;
  for (size_t i = 0; i < checkpoint.table().size(); ++i) {
    const TensorSpec& spec = checkpoint.table()[i];
    ComponentSum& sum = sums[std::string(Name(spec.component))];
    sum.parameters += spec.elements();
    if (checkpoint.source(i).file >= 0) {
      sum.bytes += spec.elements() * static_cast<int64_t>(ByteSize(checkpoint.source(i).dtype));
    }
  }
  return sums;
}

// That layouts are computed for.
struct Formats {
  WeightFormat experts = WeightFormat::kStored;
  WeightFormat projections = WeightFormat::kStored;
};

std::vector<LayoutRow> LayoutRows(const ModelConfig& config, const std::vector<TensorSpec>& table,
                                  DType dtype, const Formats& formats, int ranks) {
  std::vector<LayoutRow> rows;
  for (Layout layout : PossibleLayouts(config, ranks)) {
    layout.experts = formats.experts;
    layout.projections = formats.projections;
    const auto plan = MakePlan(config, layout);
    if (!plan.ok()) continue;
    LayoutRow row{.layout = layout, .ep = {layout.ep}, .largest = 0};
    row.smallest = std::numeric_limits<int64_t>::max();
    for (int stage = 0; stage < layout.pp; ++stage) {
      // Index 0 of a stage holds the most of its stage: the others may lack rows of the vocabulary.
      const RankPlan& rank = plan->ranks[static_cast<size_t>(plan->stage_rank(stage, 0))];
      int64_t bytes = 0;
      for (const int64_t n : RankWeightBytes(table, rank, dtype)) bytes += n;
      row.largest = std::max(row.largest, bytes);
      row.smallest = std::min(row.smallest, bytes);
    }
    if (!rows.empty() && rows.back().layout.pp == layout.pp && rows.back().largest == row.largest &&
        rows.back().smallest == row.smallest) {
      rows.back().ep.push_back(layout.ep);
    } else {
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

struct Report {
  const ModelConfig& config;
  const Checkpoint& checkpoint;
  std::map<std::string, ComponentSum> components;
  std::map<int, std::vector<LayoutRow>> layouts;
  ComponentSum total;
  Formats formats;
};

Report MakeReport(const ModelConfig& config, const Checkpoint& checkpoint, const Formats& formats) {
  Report report{config, checkpoint, Components(checkpoint), {}, {}, formats};
  for (const auto& [name, sum] : report.components) {
    report.total.parameters += sum.parameters;
    report.total.bytes += sum.bytes;
  }
  for (const int ranks : kRankCounts) {
    auto rows = LayoutRows(config, checkpoint.table(), MainType(checkpoint.audit()), formats, ranks);
    if (!rows.empty()) report.layouts[ranks] = std::move(rows);
  }
  return report;
}

void Print(const std::string& line) { std::printf("%s\n", line.c_str()); }

int64_t CountKind(const TextConfig& text, LayerKind kind) {
  return std::count(text.layer_kinds.begin(), text.layer_kinds.end(), kind);
}

void PrintConfig(const ModelConfig& config) {
  const TextConfig& t = config.text;
  Print(fmt::format("model        {} ({} keys)", config.model_type,
                    config.native_schema ? "native" : "released"));
  Print(fmt::format(
      "text         {} layers ({} lightning, {} softmax), hidden {}, {} heads of {}, {} KV heads, "
      "rotary {}, vocabulary {}",
      t.layers(), CountKind(t, LayerKind::kLightning), CountKind(t, LayerKind::kSoftmax), t.hidden, t.heads,
      t.head_dim, t.kv_heads, t.rotary_dim, t.vocab));
  Print(fmt::format("experts      {} of width {}, {} per token", t.experts, t.expert_width,
                    t.experts_per_token));
  Print(fmt::format("context      {} by config.json (shown, not enforced)", t.max_positions));
  if (config.vision.has_value()) {
    const VisionConfig& v = *config.vision;
    Print(
        fmt::format("vision       {} layers, hidden {}, {} heads, tiles of {} pixels in patches of {}, image "
                    "token {}",
                    v.layers, v.hidden, v.heads, v.image_size, v.patch_size, config.image_token_id));
  } else {
    Print("vision       none");
  }
}

void PrintAudit(const Report& report, bool all) {
  const Audit& audit = report.checkpoint.audit();
  Print(fmt::format("files        {}, fingerprint {}", report.checkpoint.files().size(),
                    report.checkpoint.Fingerprint()));
  Print(fmt::format(
      "tensors      {} of {} found ({} names); {} missing, {} misshapen, {} extra, {} known and not "
      "read",
      audit.resolved, audit.expected, Name(audit.naming), audit.missing.size(), audit.misfits.size(),
      audit.extra.size(), audit.ignored));
  if (!audit.ok() || !audit.extra.empty()) {
    Print(ToString(audit, all ? std::numeric_limits<size_t>::max() : kShown));
  }
  for (const auto& [name, sum] : report.components) {
    Print(fmt::format("  {:<20} {:>16} parameters  {:>12}", name, sum.parameters, HumanBytes(sum.bytes)));
  }
  Print(fmt::format("  {:<20} {:>16} parameters  {:>12} ({} bytes)", "total", report.total.parameters,
                    HumanBytes(report.total.bytes), report.total.bytes));
}

void PrintLayouts(const Report& report) {
  Print(fmt::format("layouts      weights per rank in {}, experts {}, projections {}, largest rank of each",
                    Name(MainType(report.checkpoint.audit())), Name(report.formats.experts),
                    Name(report.formats.projections)));
  for (const auto& [ranks, rows] : report.layouts) {
    for (const LayoutRow& row : rows) {
      Print(fmt::format("  {:>3} ranks: pp {:<2} x tp {:<2} {:>12}   ep {}", ranks, row.layout.pp,
                        row.layout.tp, HumanBytes(row.largest), fmt::format("{}", fmt::join(row.ep, ", "))));
    }
  }
}

Json ToJson(const Report& report) {
  const Audit& audit = report.checkpoint.audit();
  Json json = {{"model_type", report.config.model_type},
               {"schema", report.config.native_schema ? "native" : "released"},
               {"fingerprint", report.checkpoint.Fingerprint()},
               {"files", report.checkpoint.files().size()},
               {"naming", Name(audit.naming)},
               {"expected", audit.expected},
               {"found", audit.resolved},
               {"missing", audit.missing},
               {"misshapen", Json::array()},
               {"extra", Json::array()},
               {"ignored", audit.ignored},
               {"bytes_by_dtype", audit.bytes},
               {"parameters", report.total.parameters},
               {"bytes", report.total.bytes},
               {"ok", audit.ok()}};
  for (const Audit::Misfit& m : audit.misfits) {
    json["misshapen"].push_back(
        {{"name", m.name}, {"file", m.file}, {"expected", m.expected}, {"found", m.found}});
  }
  for (const Audit::Extra& e : audit.extra) json["extra"].push_back({{"name", e.name}, {"file", e.file}});
  for (const auto& [name, sum] : report.components) {
    json["components"][name] = {{"parameters", sum.parameters}, {"bytes", sum.bytes}};
  }
  Json& layouts = json["layouts"] = Json::array();
  for (const auto& [ranks, rows] : report.layouts) {
    for (const LayoutRow& row : rows) {
      layouts.push_back({{"ranks", ranks},
                         {"pp", row.layout.pp},
                         {"tp", row.layout.tp},
                         {"ep", row.ep},
                         {"experts", Name(report.formats.experts)},
                         {"projections", Name(report.formats.projections)},
                         {"largest_rank_bytes", row.largest},
                         {"smallest_stage_bytes", row.smallest}});
    }
  }
  return json;
}

struct InspectFlags {
  std::string dir;
  std::string experts = "stored";
  std::string projections = "stored";
  bool all = false, json = false;
};

// OK: nothing is missing and nothing has another shape.
absl::StatusOr<bool> Inspect(const InspectFlags& flags) {
  const std::string& dir = flags.dir;
  Formats formats;
  ASSIGN_OR_RETURN(formats.experts, WeightFormatFromName("experts", flags.experts));
  ASSIGN_OR_RETURN(formats.projections, WeightFormatFromName("projections", flags.projections));
  ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(dir));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir, config));
  const Report report = MakeReport(config, checkpoint, formats);
  if (flags.json) {
    Print(ToJson(report).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    PrintConfig(config);
    PrintAudit(report, flags.all);
    PrintLayouts(report);
  }
  return checkpoint.audit().ok();
}

}  // namespace

void AddInspect(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command = app->add_subcommand("inspect", "audit a checkpoint without reading its weights");
  command->add_option("DIR", flags->dir, "checkpoint folder")->required();
  command->add_option("--experts", flags->experts, "format of experts that layouts are computed for")
      ->capture_default_str()
      ->check(CLI::IsMember({"stored", "int8"}));
  command
      ->add_option("--projections", flags->projections,
                   "format of attention's matrices and lm_head that layouts are computed for")
      ->capture_default_str()
      ->check(CLI::IsMember({"stored", "int8"}));
  command->add_flag("--all", flags->all, "list every finding");
  command->add_flag("--json", flags->json, "print one JSON object");
  command->footer("Exit code 0: complete; 3: tensors are missing or misshapen; 1: not readable.");
  command->callback([flags, exit_code] {
    const auto complete = Inspect(*flags);
    if (!complete.ok()) std::fprintf(stderr, "fulger inspect: %s\n", Message(complete.status()).c_str());
    *exit_code = !complete.ok() ? 1 : *complete ? 0 : 3;
  });
}

}  // namespace fulger
