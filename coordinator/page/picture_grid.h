// GET /v1/picture_grid?width=W&height=H: how a picture of that size is cut and how many tokens it costs,
// before anybody sends it. The same arithmetic as admission's, so the answer is what the request will be
// charged.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "coordinator/api/api_keys.h"
#include "coordinator/api/http.h"
#include "model/picture/processor_config.h"

namespace fulger {

struct PictureGridOptions {
  std::optional<ImageProcessorConfig> processor{};  // none: the model sees no pictures
  const ApiKeyRing* keys = nullptr;                 // null: all may ask; outlives the router
};

// The answer, a JSON object. Width and height are those of the upright picture (after EXIF rotation), in
// pixels; "kept" is in patches of the canvas. INVALID_ARGUMENT as from SelectGrid.
absl::StatusOr<std::string> PictureGridJson(const ImageProcessorConfig& processor, ImageSize size);

void RegisterPictureGrid(Router* router, PictureGridOptions options);

}  // namespace fulger
