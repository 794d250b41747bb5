// A picture's size. Always (height, width), the order in which the model's `image_sizes` are given.
#pragma once

namespace fulger {

struct ImageSize {
  int height = 0;
  int width = 0;
  bool operator==(const ImageSize&) const = default;
};

}  // namespace fulger
