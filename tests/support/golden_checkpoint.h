// Writes the checkpoint of a golden case from the weight formula, in the released format, so that tests load
// weights through the real loader.
#pragma once

#include <string>

#include "base/dtype.h"
#include "base/status.h"
#include "tests/golden/model/golden.h"
#include "worker/vision/feature_store.h"

namespace fulger {

// `dir` must exist. One model.safetensors, config.json and, with vision, preprocessor_config.json.
absl::Status WriteGoldenCheckpoint(const golden::ModelCase& golden, const std::string& dir,
                                   DType dtype = DType::kF32);

// A case's picture as the coordinator would send it.
PictureTiles GoldenPicture(const golden::Image& image, int64_t tile_side, size_t index);

}  // namespace fulger
