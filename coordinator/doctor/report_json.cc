#include <nlohmann/json.hpp>

#include "coordinator/doctor/report.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const std::vector<Finding>& findings) {
  Json json = Json::array();
  for (const Finding& finding : findings) {
    json.push_back({{"level", Name(finding.level)}, {"check", finding.check}, {"found", finding.found}});
    if (finding.level == Level::kOk) continue;
    json.back()["cause"] = finding.cause;
    json.back()["cure"] = finding.cure;
  }
  return json;
}

Json ToJson(const Ways& ways) {
  Json json = {{"ends", ways.ends},
               {"median_bytes_per_second", ways.median_rate},
               {"median_latency_seconds", ways.median_latency},
               {"reference_bytes_per_second", ways.reference},
               {"ways", Json::array()}};
  for (const Ways::Way& way : ways.ways) {
    json["ways"].push_back({{"from", ways.ends[way.from]},
                            {"to", ways.ends[way.to]},
                            {"bytes_per_second", way.bytes_per_second},
                            {"latency_seconds", way.latency},
                            {"outlier", way.outlier}});
  }
  return json;
}

}  // namespace

Json ReportJson(const ExamReport& report) {
  Json json = {{"version", report.version},         {"verdict", Name(report.level())},
               {"transport", report.transport},     {"ranks", report.expected_ranks},
               {"seconds", report.seconds},         {"rounds", report.rounds},
               {"rounds_done", report.rounds_done}, {"one_pair_at_a_time", report.one_pair_at_a_time},
               {"general", ToJson(report.general)}, {"nodes", Json::array()}};
  for (const NodeReport& node : report.nodes) {
    json["nodes"].push_back({{"name", node.name},
                             {"verdict", Name(node.level())},
                             {"ranks", node.ranks},
                             {"findings", ToJson(node.findings)}});
  }
  json["between_nodes"] = ToJson(report.between);
  json["within_nodes"] = ToJson(report.within);
  return json;
}

}  // namespace fulger
