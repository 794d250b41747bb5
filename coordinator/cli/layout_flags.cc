#include "coordinator/cli/layout_flags.h"

#include <CLI/CLI.hpp>

namespace fulger {

void AddLayoutFlags(CLI::App* app, LayoutFlags* flags) {
  const auto add = [&](const std::string& name, auto& value, const std::string& help) {
    return app->add_option(name, value, help)->capture_default_str()->each([flags](const std::string&) {
      flags->given = true;
    });
  };
  add("--tp", flags->tp, "tensor parallel ranks per stage")->check(CLI::PositiveNumber);
  add("--pp", flags->pp, "pipeline stages")->check(CLI::PositiveNumber);
  add("--ep", flags->ep, "groups that share the experts; divides tp")->check(CLI::PositiveNumber);
  add("--vision-ranks", flags->vision, "ranks that hold only the vision tower; 0: stage 0 encodes pictures")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--stage-layers", flags->stage_layers, "layers of each stage: a,b,...; default: even")
      ->delimiter(',')
      ->each([flags](const std::string&) { flags->given = true; });
  add("--experts", flags->experts, "how experts are held: stored (as in the checkpoint) or int8")
      ->check(CLI::IsMember({"stored", "int8"}));
  add("--projections", flags->projections,
      "how attention's matrices and lm_head are held: stored (as in the checkpoint) or int8")
      ->check(CLI::IsMember({"stored", "int8"}));
}

absl::StatusOr<Layout> LayoutOf(const LayoutFlags& flags) {
  ASSIGN_OR_RETURN(const WeightFormat experts, WeightFormatFromName("experts", flags.experts));
  ASSIGN_OR_RETURN(const WeightFormat projections, WeightFormatFromName("projections", flags.projections));
  return Layout{.pp = flags.pp,
                .tp = flags.tp,
                .ep = flags.ep,
                .vision = flags.vision,
                .stage_layers = flags.stage_layers,
                .experts = experts,
                .projections = projections};
}

}  // namespace fulger
