// Packed picture features by key, and their encoding. Held by the ranks with the vision tower: vision ranks,
// or every rank of stage 0, which then encode tiles t, t+tp, ... each and gather them. The coordinator owns
// index and eviction. Threads: the rank's executor only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

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
  bool more = false;   // the next one is encoded together with it: see PictureQueue
};
using Picture = std::shared_ptr<const PictureTiles>;

// What became of the pictures of one pass of the vision tower.
struct EncodedPictures {
  // In the order of the pictures: the number of packed rows; or INVALID_ARGUMENT (its sizes contradict each
  // other) or DATA_LOSS (its features are not finite; names the part of the tower), and then it is not kept.
  std::vector<absl::StatusOr<int64_t>> rows;
  int64_t tiles = 0;  // that this rank ran
};

class FeatureStore {
 public:
  // `tower` must outlive the store.
  FeatureStore(const ModelConfig& config, const ImageProcessorConfig& processor, const VisionTower* tower)
      : config_(config), processor_(processor), tower_(tower) {}

  // Encodes and packs the pictures together, tiles of several of them in each batch of the tower; every rank
  // of ctx.stage calls it with the same ones. A picture's features are the same bits alone and in company,
  // and one that fails leaves the others alone. A key that is held already is not encoded again. An error
  // means that this rank is broken.
  absl::StatusOr<EncodedPictures> Encode(ExecContext& ctx, std::span<const Picture> pictures);
  void Evict(const std::string& key) { pictures_.erase(key); }
  // f32 [count, hidden]: packed rows [first, first + count). NOT_FOUND names the key; a range outside of the
  // picture is INTERNAL, the coordinator's bug.
  absl::StatusOr<TensorView> Rows(const std::string& key, int64_t first, int64_t count) const;
  int64_t bytes() const;

 private:
  struct Packed {
    Buffer buffer;
    TensorView rows;
  };
  // A picture that is being encoded. Its tile t is tile first + t of the pass.
  struct Member {
    size_t index = 0;  // among the pictures
    ImageGrid grid;
    int64_t first = 0;
  };
  // Tile i of a pass is encoded by rank i % ranks as its (i / ranks)-th of at most `share`; the last ranks
  // may have one less.
  struct Deal {
    int64_t ranks = 1, share = 0;
    int64_t Place(int64_t tile) const { return tile % ranks * share + tile / ranks; }  // in the features
  };

  absl::StatusOr<ImageGrid> CheckPicture(const PictureTiles& picture) const;
  // f32 [ranks * share * patches, hidden]: the features of all tiles, on every rank. `own`: of tiles run
  // here.
  absl::StatusOr<Buffer> EncodeTiles(ExecContext& ctx, const Deal& deal, std::span<const char* const> tiles,
                                     int64_t* own);
  absl::StatusOr<Packed> Pack(ExecContext& ctx, const PictureTiles& picture, const Member& member,
                              const Deal& deal, const TensorView& features);
  // What made this packed row NaN or infinite. Every rank finds it alone, by another pass over the row's
  // tile.
  absl::StatusOr<std::string> BadPart(ExecContext& ctx, const PictureTiles& picture, const ImageGrid& grid,
                                      size_t row) const;

  const ModelConfig& config_;
  ImageProcessorConfig processor_;
  const VisionTower* tower_;
  std::map<std::string, Packed> pictures_;
};

}  // namespace fulger
