#include "worker/exec/links.h"

namespace fulger {

absl::StatusOr<RankLinks> ConnectLinks(const Plan& plan, int rank, Fabric& fabric) {
  RankLinks links;
  const Layout& layout = plan.layout;
  const int language_ranks = layout.pp * layout.tp;
  if (rank >= language_ranks) {
    ASSIGN_OR_RETURN(auto link, fabric.Connect(rank, 0, fmt::format("features.{}", rank)));
    links.features.push_back(std::move(link));
    return links;
  }
  const int stage = rank / layout.tp;
  const int index = rank % layout.tp;
  const int last = plan.stage_rank(layout.pp - 1, index);
  if (stage > 0) {
    ASSIGN_OR_RETURN(links.from_previous,
                     fabric.Connect(rank - layout.tp, rank, fmt::format("hidden.{}", rank)));
  }
  if (stage + 1 < layout.pp) {
    ASSIGN_OR_RETURN(links.to_next,
                     fabric.Connect(rank, rank + layout.tp, fmt::format("hidden.{}", rank + layout.tp)));
  }
  if (layout.pp > 1 && (stage == 0 || rank == last)) {
    ASSIGN_OR_RETURN(links.feedback, fabric.Connect(last, index, fmt::format("feedback.{}", index)));
    ASSIGN_OR_RETURN(links.vocabulary, fabric.Connect(index, last, fmt::format("vocabulary.{}", index)));
  }
  if (rank == 0) {
    for (int v = 0; v < layout.vision; ++v) {
      const int from = language_ranks + v;
      ASSIGN_OR_RETURN(auto link, fabric.Connect(from, 0, fmt::format("features.{}", from)));
      links.features.push_back(std::move(link));
    }
  }
  return links;
}

}  // namespace fulger
