// Packed picture features by key, and their encoding. Held by the ranks with the vision tower: vision ranks,
// or every rank of stage 0, which then encode tiles t, t+tp, ... each and gather them. The coordinator owns
// index and eviction. Threads: the rank's executor only.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "model/config.h"
#include "model/picture/grid.h"
#include "model/picture/processor_config.h"
#include "worker/layers/context.h"
#include "worker/vision/vision_tower.h"

namespace fulger {

// A picture as the coordinator sends it.
struct PictureTiles {
  std::string key;
  int64_t tiles = 0;
  int64_t height = 0;  // original
  int64_t width = 0;
  std::string pixels;  // uint8 [tiles, S, S, 3]
};

class FeatureStore {
 public:
  // `tower` must outlive the store.
  FeatureStore(const ModelConfig& config, const ImageProcessorConfig& processor, const VisionTower* tower)
      : config_(config), processor_(processor), tower_(tower) {}

  // Encodes and packs; every rank of ctx.stage calls it with the same picture. A key that is held already is
  // not encoded again. Returns the number of rows. Non-finite features are DATA_LOSS, which names the part of
  // the tower, and are not kept.
  absl::StatusOr<int64_t> Encode(ExecContext& ctx, const PictureTiles& picture);
  void Evict(const std::string& key) { pictures_.erase(key); }
  // f32 [count, hidden]: packed rows [first, first + count). NOT_FOUND names the key; a range outside of the
  // picture is INTERNAL, the coordinator's bug.
  absl::StatusOr<TensorView> Rows(const std::string& key, int64_t first, int64_t count) const;
  int64_t bytes() const;

 private:
  struct Picture {
    Buffer buffer;
    TensorView rows;
  };

  absl::Status CheckPicture(const PictureTiles& picture, const ImageGrid& grid) const;
  absl::StatusOr<Picture> EncodeAndPack(ExecContext& ctx, const PictureTiles& picture, const ImageGrid& grid);
  // What made this packed row NaN or infinite. Every rank finds it alone, by another pass over the row's
  // tile.
  absl::StatusOr<std::string> BadPart(ExecContext& ctx, const PictureTiles& picture, const ImageGrid& grid,
                                      size_t row) const;

  const ModelConfig& config_;
  ImageProcessorConfig processor_;
  const VisionTower* tower_;
  std::map<std::string, Picture> pictures_;
};

}  // namespace fulger
