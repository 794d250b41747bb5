// Where to cut the layers into stages so that the heaviest is as light as can be.
#pragma once

#include <cstdint>
#include <vector>

namespace fulger {

// `layers[l]`: what layer l weighs; `first` and `last` come on top in the first and last stage. Layers per
// stage, minimal in the heaviest stage; where the even cut (floor(p*L/pp)) is as good, that one. Empty when
// there are fewer layers than stages.
std::vector<int> BalancedStages(const std::vector<int64_t>& layers, int64_t first, int64_t last, int stages);

}  // namespace fulger
