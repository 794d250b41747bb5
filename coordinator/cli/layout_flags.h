// The flags that say how a model is cut: one spelling in every command that takes a layout.
#pragma once

#include <CLI/App.hpp>

#include <string>
#include <vector>

#include "base/status.h"
#include "model/layout.h"

namespace fulger {

struct LayoutFlags {
  int tp = 1, pp = 1, ep = 1, vision = 0;
  std::vector<int> stage_layers;
  std::string experts = "stored", projections = "stored";
  bool given = false;  // at least one of them
};
void AddLayoutFlags(CLI::App* app, LayoutFlags* flags);
absl::StatusOr<Layout> LayoutOf(const LayoutFlags& flags);

}  // namespace fulger
